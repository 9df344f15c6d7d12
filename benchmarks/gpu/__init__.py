"""Parts of the GPU benchmarks: counted bounds, comparison with stock vLLM, kernel inputs, targets."""
