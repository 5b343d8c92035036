"""Timing in pairs, the machine and its limits, results as data."""
