"""Benchmarks of quality and cost: `python -m benchmarks CASE`; each run writes one JSON file to `results/`."""
