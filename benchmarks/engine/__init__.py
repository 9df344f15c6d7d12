"""An engine of vLLM, stock or ours, in a process of its own, and what is measured in it; for every device."""
