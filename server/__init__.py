"""vLLM's OpenAI server with `sparsity_p`: requests choose how sparse attention may be and learn what that saved."""
