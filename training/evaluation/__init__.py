"""Accuracy and token ratio of a checkpoint as it is served: under vLLM with this project's backend."""
