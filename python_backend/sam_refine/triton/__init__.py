"""What the models of this repository need of Triton's Python stub.

    requests  a model's requests and responses; what an error becomes for the caller
    models    the other models of the repository, called on behalf of a request (BLS)
    devices   numpy or torch, and how each reads and writes Triton's tensors
    metrics   what `sam_refine` counts and measures, for Prometheus

Like the models themselves, this wing can be imported inside a stub only: it needs
`triton_python_backend_utils`, which Triton brings.
"""
