"""Pixel geometry that pictures and architecture share."""

PATCH_SIZE = 14
MERGE_SIZE = 2
TEMPORAL_PATCH_SIZE = 2
CELL_SIZE = PATCH_SIZE * MERGE_SIZE
"""Pixels of one side of a grid cell; one cell is one visual token."""

FRAMES_PER_SECOND = 2
"""Of the videos: with `TEMPORAL_PATCH_SIZE` 2, one temporal patch is one second."""
