"""What a study measures of a detector: accuracy, complexity and latency, by runtime."""
