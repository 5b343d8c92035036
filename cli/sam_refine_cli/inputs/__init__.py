"""The files that commands read."""
