"""The parts of the demo model: its pictures, questions, tokenizer, architecture and training step."""
