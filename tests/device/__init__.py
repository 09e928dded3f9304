"""What a machine with a GPU tells in ten minutes: `python -m tests.device`."""
