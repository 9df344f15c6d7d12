"""Training: the bundled demo model and its data, and post-training for sparse attention."""
