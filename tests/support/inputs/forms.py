"""Forms in which people have images, scores and labels: those of docs/inputs.md."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import numpy as np

_SCRIPT = Path(__file__).parents[3] / "docs/demo/make_inputs_table.py"
_spec = importlib.util.spec_from_file_location("make_inputs_table", _SCRIPT)
assert _spec is not None
assert _spec.loader is not None
forms = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(forms)

png = forms.png


def tiff16(array: np.ndarray, order: str) -> bytes:
    """An uncompressed TIFF of (H, W, 3) uint16 in the byte order "<" or ">"."""
    height, width, channels = array.shape
    data = array.astype(f"{order}u2").tobytes()
    tags = [(256, 4, width), (257, 4, height), (258, 3, None), (259, 3, 1), (262, 3, 2),
            (273, 4, None), (277, 3, channels), (278, 4, height), (279, 4, len(data))]  # fmt: skip
    bits_at = 8 + 2 + 12 * len(tags) + 4
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    places = {258: bits_at, 273: bits_at + len(bits)}
    entries = b""
    for tag, kind, value in tags:
        if tag in places:
            count = channels if tag == 258 else 1
            entries += struct.pack(f"{order}HHII", tag, kind, count, places[tag])
        elif kind == 3:
            entries += struct.pack(f"{order}HHIHH", tag, kind, 1, value, 0)
        else:
            entries += struct.pack(f"{order}HHII", tag, kind, 1, value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    entry_count = struct.pack(f"{order}H", len(tags))
    return head + entry_count + entries + struct.pack(f"{order}I", 0) + bits + data
