"""VLMEvalKit against our endpoint: the demo's pictures as its TSV file, and the score of what it wrote."""
