"""Images and videos, no larger than asked for."""

import numpy as np
import pytest

from training.data.media import MediaLimits, UnreadableMedia, frame_indices, load_image, load_video


def test_images_are_rgb_and_keep_their_size(media):
    image = load_image(str(media / "red.png"), MediaLimits())
    assert (image.mode, image.size, image.getpixel((5, 5))) == ("RGB", (80, 60), (200, 0, 0))


def test_large_images_are_shrunk_in_proportion(media):
    # 80 x 60 to a quarter of the area.
    assert load_image(str(media / "red.png"), MediaLimits(max_pixels=1200)).size == (40, 30)
    assert load_image(str(media / "red.png"), MediaLimits(max_pixels=4800)).size == (80, 60)


@pytest.mark.parametrize(
    ("num_frames", "native", "limits", "indices"),
    [
        # 10 s at 2 frames a second would be 20 frames; 4 are allowed.
        (100, 10.0, MediaLimits(max_frames=4), [0, 33, 66, 99]),
        # 2 s at 2 frames a second.
        (20, 10.0, MediaLimits(), [0, 6, 13, 19]),
        # An odd number is rounded down to whole pairs.
        (15, 10.0, MediaLimits(), [0, 14]),
        (3, 30.0, MediaLimits(), [0, 2]),
        (1, 30.0, MediaLimits(), [0]),
        (20, 10.0, MediaLimits(max_frames=3, frames_per_second=10), [0, 19]),
    ],
)
def test_frame_indices_by_hand(num_frames, native, limits, indices):
    assert frame_indices(num_frames, native, limits) == indices


def test_the_frames_are_the_right_ones(media):
    # The file has 20 frames at 2 a second, and frame i has the value 10 i.
    video = load_video(str(media / "clip.mp4"), MediaLimits(max_frames=4))
    assert video.frames.shape == (4, 64, 64, 3)
    assert video.frames.dtype == np.uint8
    assert video.frames[:, 0, 0, 0].tolist() == [0, 60, 130, 190]
    assert video.frames_per_second == pytest.approx(2 * 4 / 20)


def test_all_frames_and_smaller_ones(media):
    video = load_video(str(media / "clip.mp4"), MediaLimits(max_frames=20, max_frame_pixels=1024))
    assert video.frames.shape == (20, 32, 32, 3)
    assert video.frames[:, 3, 3, 1].tolist() == list(range(0, 200, 10))
    assert video.frames_per_second == pytest.approx(2.0)


@pytest.mark.parametrize(("load", "name"), [(load_image, "broken.png"), (load_video, "broken.mp4")])
def test_other_files_are_refused(media, load, name):
    with pytest.raises(UnreadableMedia, match=name):
        load(str(media / name), MediaLimits())


@pytest.mark.parametrize("limits", [{"max_pixels": 0}, {"max_frames": 1}, {"frames_per_second": -1.0}])
def test_limits_are_checked(limits):
    name, value = next(iter(limits.items()))
    with pytest.raises(ValueError, match=f"{name} is {value}, but must be"):
        MediaLimits(**limits)
