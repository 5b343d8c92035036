"""What a server says of itself: `info` and `health`."""
