"""Algorithm 4, Optimized SAM Refinement: a coarse label map snaps to the edges that SAM sees.

`algorithm.pipeline.refine` is the algorithm, and each of its steps a module beside it. The wings:

    contract    what callers, models and the export share: tensors, options, limits
    algorithm   Algorithm 4, step by step
    numerics    resizing and argmax, for numpy arrays and torch tensors alike
    service     one request: checked, answered, its image's embedding kept
    triton      all that needs Triton's Python stub

Each wing imports only those above it; `service` comes after `algorithm` and `numerics`.


Letters in shapes, everywhere in this project:

    H, W      image, pixels
    h, w      class scores as they came in, h <= H, w <= W
    h_d, w_d  working grid, floor(H / r) x floor(W / r)
    C         classes
    Q         regions of the coarse map, kept or failed
    N         prompts of one decoder call, or regions kept, as the text says
    V         prompts of one decoder call whose masks are kept
    K         mask prompts (one per class with regions)
    P         points per prompt (a box is two)
    h_l, w_l  the part of a low-resolution mask (256 x 256) that the image lies on

Frames in names: `_image` (H, W), `_grid` (h_d, w_d), `_model` (SAM's 1024 x 1024 canvas).
Boxes are (x_min, y_min, x_max, y_max), inclusive pixel indices; points (x, y); sizes (h, w).
"""
