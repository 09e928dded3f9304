"""Every setting and knob, and how they are read from YAML."""
