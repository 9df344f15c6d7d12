"""A long run of mixed requests against one server: what is sent, what must come back, and what must not be lost."""
