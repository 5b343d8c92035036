"""One request, from tensors to tensors, wherever the networks run.

Its modules:

    request          what a caller sent, checked: it becomes a `RefineRequest`
    answer           the answer to it: Algorithm 4, and its outputs as tensors
    images           pictures decoded, checked, and put on the encoder's canvas
    embedding_cache  embeddings of images, kept for later requests
    memory           how much is free for the decoder

The service knows nothing of Triton: the client's local mode uses it too.
"""
