"""What callers have in files: images, and what goes with each of them."""
