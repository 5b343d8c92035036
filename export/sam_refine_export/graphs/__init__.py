"""The networks rearranged for serving, and written as ONNX."""
