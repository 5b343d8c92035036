"""Arrays of numpy and torch alike: resizing, argmax, tiles. Knows nothing of regions or SAM."""
