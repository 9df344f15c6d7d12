"""Parts of the GPU benchmarks: counted bounds, engines in processes of their own, kernel inputs, targets."""
