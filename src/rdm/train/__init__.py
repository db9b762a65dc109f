"""Training and fine-tuning, with and without gates."""
