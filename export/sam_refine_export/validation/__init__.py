"""Whether the graphs compute what PyTorch computes."""
