"""A page in the browser that refines your own data: `serve` is what `sam-refine ui` runs.

It knows only the client and the contract; whatever else it needs is passed in. gradio reads
environment variables when it is imported, so nothing here imports it before `serve` has set them.
"""

from sam_refine_ui.example import Example
from sam_refine_ui.server import PageError, PageOptions, serve

__all__ = ["Example", "PageError", "PageOptions", "serve"]
