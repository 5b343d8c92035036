"""Files with parameters to PyTorch networks: checkpoints of each form, published ONNX graphs."""
