"""Arrays of any library as numpy's. None of the libraries is ever imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sam_refine.contract import InvalidRequestError
from sam_refine_client.decoding import decoding

ArrayLike: TypeAlias = Any
"""A numpy array; a torch tensor on any device, of any dtype; what numpy can make an array of."""
AnyArray: TypeAlias = npt.NDArray[Any]

_HOLDERS: Final = ("logits", "seg_logits", "out")
"""Where Hugging Face, mmsegmentation and torchvision put the scores in what a network returns."""
_QUERIES: Final = ("class_queries_logits", "masks_queries_logits", "pred_masks", "pred_boxes")
"""What Hugging Face's networks return that find things by queries, as DETR and Mask2Former do."""
OF_QUERIES: Final = (
    "make a map of them, and give it as labels: "
    "processor.post_process_semantic_segmentation(outputs, target_sizes=[(H, W)])[0]"
)


def unwrapped(name: str, given: Any) -> Any:
    """The array in what a network returned: an object or a dict with `.logits`, or the like.

    Raises `InvalidRequestError` for an object or dict that has no such thing.
    """
    if isinstance(given, Mapping):
        check_no_queries(name, given)
        for holder in _HOLDERS:
            if given.get(holder) is not None:
                return unwrapped(name, given[holder])
        keys = ", ".join(map(str, given)) or "nothing"
        raise InvalidRequestError(
            f"{name} must be an array, got a {type(given).__name__} of {keys}; give the one that "
            f'has the class scores: {name}=outputs["..."]'
        )
    if is_array(given):
        return given
    check_no_queries(name, {each: None for each in _QUERIES if hasattr(given, each)})
    for holder in _HOLDERS:
        found = getattr(given, holder, None)
        if found is not None:
            return unwrapped(name, found)
    if (data := pixel_data(given)) is not given:
        return data
    return given


def check_no_queries(name: str, holder: Mapping[Any, Any]) -> None:
    """Raise `InvalidRequestError` for what a network returns that finds things by queries."""
    if any(each in holder for each in _QUERIES):
        raise InvalidRequestError(
            f"{name} must be class scores (C, h, w), got queries; {OF_QUERIES}"
        )


def content_of_opened(given: Any) -> Any:
    """The content of an opened file, from its start as Pillow has it; anything else as it is."""
    if hasattr(given, "read") and hasattr(given, "seek"):
        with decoding("an opened file must be readable from its start"):
            given.seek(0)
            return given.read()
    return given


def pixel_data(given: Any) -> Any:
    """The array in mmsegmentation's PixelData; anything else as it is."""
    data = getattr(given, "data", None)
    return data if is_array(data) and not is_array(given) else given


def is_array(given: Any) -> bool:
    """Whether it is an array of some library."""
    return not isinstance(given, str | bytes) and (
        isinstance(given, np.ndarray) or hasattr(given, "__array__") or _is_tensor(given)
    )


def _is_tensor(given: Any) -> bool:
    """Whether it is torch's, or of a class made of it; files, too, have `detach`."""
    return hasattr(given, "detach") and hasattr(given, "cpu")


def numpy_of(name: str, given: ArrayLike) -> AnyArray:
    """A numpy array as it is; a torch tensor brought to the CPU, bfloat16 as float32.

    Raises `InvalidRequestError` for what is no array.
    """
    if isinstance(given, np.ma.MaskedArray):
        if np.any(given.mask):
            raise InvalidRequestError(
                f"{name} has masked values; say what they are: labels.filled(-1), which is void, "
                "logits.filled(0), image.filled(0)"
            )
        return np.asarray(given.data)
    if isinstance(given, np.ndarray):
        return _of_small_floats(np.asarray(given))  # no matrix, whose axes are always two
    if _is_tensor(given):
        return _of_tensor(name, given)
    if type(given).__module__.partition(".")[0] == "cupy":
        on_cpu: AnyArray = given.get()
        return on_cpu
    if is_array(given):
        return _of_small_floats(np.asarray(given))
    if isinstance(given, list | tuple) and len(given) == 1 and is_array(given[0]):
        return numpy_of(name, given[0])
    hint = ""
    if isinstance(given, list | tuple):
        if any(isinstance(each, Mapping) and "mask" in each for each in given):
            raise InvalidRequestError(
                f"{name} must be class scores (C, h, w), got masks of a pipeline; give them as "
                "labels"
            )
        shapes = {np.shape(each) for each in given if isinstance(each, np.ndarray)}
        if len(shapes) == 1 and len(next(iter(shapes))) == 2:
            hint = f"; of planes make one array: np.stack({name}); of several give one: {name}[0]"
        elif any(map(is_array, given)):
            hint = f"; of several give one: {name}[0]"
        elif any(isinstance(each, Mapping) for each in given):
            hint = f'; give the array in it: {name}[0]["..."]'
        else:
            hint = f"; give np.asarray({name})"
    elif isinstance(given, bytes | bytearray) or hasattr(given, "read"):
        hint = f"; of the content of a file give {name}=np.load(...), or its path"
    raise InvalidRequestError(
        f"{name} must be a numpy array or a torch tensor, got {type(given).__name__}{hint}"
    )


def _of_tensor(name: str, tensor: Any) -> AnyArray:
    """A torch tensor's values: dense, of a dtype that numpy has."""
    try:
        tensor = tensor.detach()
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        if "strided" not in str(tensor.layout):
            tensor = tensor.to_dense()
        tensor = tensor.cpu()
        if str(tensor.dtype).startswith(("torch.bfloat16", "torch.float8")):
            tensor = tensor.float()
        converted: AnyArray = tensor.resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:  # such as one on "meta"
        raise InvalidRequestError(
            f"{name} must be a tensor that numpy can have, got {tensor.dtype} on {tensor.device}: "
            f"{' '.join(str(error).split())[:100]}; give {name}.float().cpu().numpy()"
        ) from error
    return converted


def _of_small_floats(array: AnyArray) -> AnyArray:
    """bfloat16 and the like, which others add to numpy, as float32."""
    is_added = array.dtype.kind == "V" and array.dtype.names is None
    is_float = str(array.dtype).startswith(("bfloat16", "float8"))
    return array.astype(np.float32) if is_added and is_float else array


def without_batch(name: str, array: AnyArray, axes: int) -> AnyArray:
    """The array without leading axes of 1 beyond `axes`.

    Raises `InvalidRequestError` for a batch of several.
    """
    while array.ndim > axes and array.shape[0] == 1:
        array = array[0]
    if array.ndim > axes and array.ndim == axes + 1 and array.shape[0] > 1:
        raise InvalidRequestError(
            f"{name} must be of one image, got a batch of {array.shape[0]}, {array.shape}; give "
            f"each its own call: {name}[i]"
        )
    return array


def check_filled(name: str, array: AnyArray) -> None:
    """Raise `InvalidRequestError` for an array without values."""
    if array.size == 0:
        raise InvalidRequestError(f"{name} must have values, got the shape {array.shape}")
