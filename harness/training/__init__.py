"""What a training is made of: its loop, its clocks, its checkpoints, its processes."""
