"""Keeps a server up: sees what ends, stops or hangs, heals it, and says whether it is ready."""
