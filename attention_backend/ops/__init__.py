"""The stages of Top-p sparse attention, one folder each; `reference.py` is readable torch.

`ranking` is no stage: it holds baselines for benchmarks.
"""
