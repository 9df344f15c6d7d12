"""One benchmark per file; `benchmarks/registry.py` lists them."""
