"""Pictures and videos of strangers: where they may come from, how large they may be, and how they are loaded."""
