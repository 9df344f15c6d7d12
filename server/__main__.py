"""`python -m server --model demo`: vLLM's OpenAI server with token pruning."""

import sys

# vLLM spawns its processes, and each of them imports this module again: nothing may happen here beside the start.
if __name__ == "__main__":
    from server.last_resort import end_within
    from server.main import main

    try:
        sys.exit(main(sys.argv[1:]))
    finally:
        end_within()
