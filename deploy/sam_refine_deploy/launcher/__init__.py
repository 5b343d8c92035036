"""Finds a tritonserver, starts it, watches it start, ends it."""
