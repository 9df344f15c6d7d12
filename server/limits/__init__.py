"""How large one request may be, in bytes, seconds, tokens, sequences and grammar."""
