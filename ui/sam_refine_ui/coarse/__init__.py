"""What people bring to the page, as a coarse map."""
