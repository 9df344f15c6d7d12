"""`python -m server --model demo`: vLLM's OpenAI server with token pruning."""

import sys

# vLLM spawns its processes, and each of them imports this module again: nothing may happen here beside the start.
if __name__ == "__main__":
    from server.main import main

    sys.exit(main(sys.argv[1:]))
