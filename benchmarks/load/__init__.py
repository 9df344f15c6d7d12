"""Load through HTTP: prompts, vLLM's own load generator, and what its measurements come to."""
