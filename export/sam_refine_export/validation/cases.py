"""What the decoder is tried on besides the samples: which masks it keeps, which one it chooses."""

from __future__ import annotations

from typing import Final

from sam_refine.contract import MaskChoice, MaskPromptMode
from sam_refine_export.graphs.samples import DecoderCase

KEPT_CASE: Final = DecoderCase(7, 1, True, 2, MaskPromptMode.SAM, MaskChoice.SINGLE)
"""Prompts of which a threshold keeps some."""
KEPT_SIZE: Final = (172, 256)
"""The part of their masks that is kept, (h_l, w_l): an image of 3:2."""

CHOICE_CASE: Final = DecoderCase(4, 1, True, 2, MaskPromptMode.SAM, MaskChoice.BEST_OF_THREE)
"""One prompt for each of `RANKINGS`."""

RANKINGS: Final = ((0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2))
"""By prompt: SAM's four masks from the best predicted IoU to the worst.

A graph that takes the best or the worst of some set of masks, or always the same mask, is wrong for
one of these, unless it takes mask 0 alone or the best of masks 1 to 3.
"""
