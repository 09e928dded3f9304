"""Searches: a space of knobs, objectives, constraints, and which trials end early.

`plan` is what a driver calls; the other modules are its parts.
"""
