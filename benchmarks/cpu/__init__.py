"""Parts of the CPU benchmarks: the demo models, engines of ours beside stock vLLM, rounds in turns, prefill stages."""
