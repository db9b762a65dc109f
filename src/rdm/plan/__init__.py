"""What an experiment costs, before anything runs."""
