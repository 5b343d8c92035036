"""What a job reads: shards of samples, each an image with its coarse scores."""
