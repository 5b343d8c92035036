"""A Python-based `onnxruntime` backend, for servers without the C++ one."""
