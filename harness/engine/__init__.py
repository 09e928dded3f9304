"""Runs the trials of a study: one driver that asks and tells, executors that carry jobs out."""
