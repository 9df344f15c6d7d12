"""The stages of Top-p sparse attention, one folder each; `reference.py` is readable torch."""
