"""Finds a tritonserver, starts it, waits until it is ready, ends it."""
