"""The model repository that Triton serves, and the card that goes with it."""
