"""A python-based `onnxruntime` backend for servers that lack the C++ one."""
