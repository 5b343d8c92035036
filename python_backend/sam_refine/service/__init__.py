"""One request, from tensors to tensors, wherever the networks run."""
