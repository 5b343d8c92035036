"""Calls as generators of steps, and how each step is done."""
