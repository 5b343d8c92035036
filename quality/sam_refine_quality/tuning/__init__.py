"""A judge of masks, learned from labelled images: `sam-refine tune`."""
