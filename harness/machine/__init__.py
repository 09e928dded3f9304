"""The machine while a measurement runs: its conditions, its limits and its energy."""
