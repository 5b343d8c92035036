"""What a server says about itself: `info` and `health`."""
