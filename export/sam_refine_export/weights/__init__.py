"""Where parameters come from: npm, Meta, a checkpoint of one's own."""
