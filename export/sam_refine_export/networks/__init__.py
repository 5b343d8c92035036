"""SAM's networks as PyTorch modules."""
