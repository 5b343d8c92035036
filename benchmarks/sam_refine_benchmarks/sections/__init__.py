"""One module a section of the suite."""
