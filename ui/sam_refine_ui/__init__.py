"""A page in the browser that refines one's own data: `serve` is what `sam-refine ui` runs.

Knows the client and the contract only, whatever else is needed is passed in. gradio reads its
environment as it is imported, so that nothing here imports it before `serve` has set that.
"""

from sam_refine_ui.example import Example
from sam_refine_ui.server import PageError, PageOptions, serve

__all__ = ["Example", "PageError", "PageOptions", "serve"]
