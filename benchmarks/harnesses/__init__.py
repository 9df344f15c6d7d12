"""Public accuracy harnesses against our endpoint; docs/evaluation.md has the commands."""
