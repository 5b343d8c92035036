"""Types of the arrays that callers give and get."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

UInt8: TypeAlias = npt.NDArray[np.uint8]
Float32: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.int32]
"""(H, W) class ids, as the server takes and gives them."""
Mask: TypeAlias = npt.NDArray[np.bool_]
AnyLabels: TypeAlias = npt.NDArray[np.integer[Any]]
"""(H, W) class ids of any integer dtype."""
