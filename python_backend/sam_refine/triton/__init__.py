"""What the models of this repository need of Triton's Python stub.

The only wing, beside the models themselves, that is imported inside a stub alone: it needs
`triton_python_backend_utils`, which Triton brings.
"""
