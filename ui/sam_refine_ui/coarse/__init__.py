"""What people bring to the page, turned into a coarse map."""
