"""An evaluation for people: rows of text, and a page with pictures."""
