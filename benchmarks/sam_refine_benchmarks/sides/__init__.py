"""What is compared: ours, the straight version, their inputs and networks."""
