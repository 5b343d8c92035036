"""`sam-refine refine`: one image and its scores through a server."""

from __future__ import annotations

import json
import tokenize
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from sam_refine.contract import FailedRegions, InvalidRequestError, MaskPrompt, RefineOptions
from sam_refine_cli.console import errors_in_one_line, need_extra, print_result, stdout

if TYPE_CHECKING:
    from sam_refine_client import RefineResult

DEFAULTS = RefineOptions()


def refine(
    image: Annotated[Path, typer.Argument(help="JPEG or PNG.", exists=True, dir_okay=False)],
    logits: Annotated[
        Path,
        typer.Option(
            help="Class scores (C, h, w) as .npy, at most as large as the image.",
            exists=True,
            dir_okay=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Directory for the results.", file_okay=False)],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Coarse map (H, W) as .npy; else the argmax of the scores.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    url: Annotated[str, typer.Option(help="gRPC address of the server.")] = "127.0.0.1:8001",
    timeout_s: Annotated[float | None, typer.Option(help="Deadline, seconds.", min=0)] = None,
    downsample_ratio: Annotated[
        int, typer.Option(help="r: one grid cell for r x r pixels.")
    ] = DEFAULTS.downsample_ratio,
    confidence_threshold: Annotated[
        float, typer.Option(help="tau_c: lower scores belong to no region.")
    ] = DEFAULTS.confidence_threshold,
    iou_threshold: Annotated[
        float, typer.Option(help="tau_iou: keep regions of a higher predicted IoU.")
    ] = DEFAULTS.iou_threshold,
    mask_prompt: Annotated[
        MaskPrompt, typer.Option(help="How scores become a mask prompt.")
    ] = DEFAULTS.mask_prompt,
    mask_prompt_scale: Annotated[
        float, typer.Option(help="tau_m: factor of the mask prompt.")
    ] = DEFAULTS.mask_prompt_scale,
    min_region_area: Annotated[
        int, typer.Option(help="Smaller components, in grid cells, are no regions.")
    ] = DEFAULTS.min_region_area,
    failed_regions: Annotated[
        FailedRegions, typer.Option(help="What happens where a region failed.")
    ] = DEFAULTS.failed_regions,
    multimask_output: Annotated[
        bool, typer.Option(help="Best of SAM's masks 1 to 3 instead of its single mask.")
    ] = DEFAULTS.multimask_output,
    max_regions: Annotated[
        int | None, typer.Option(help="Refuse maps of more regions.")
    ] = DEFAULTS.max_regions,
    ignore_label: Annotated[
        int | None, typer.Option(help="Pixels of this label keep it.")
    ] = DEFAULTS.ignore_label,
) -> None:
    """Refine a coarse map through a running server.

    Writes labels.png (palette), regions.json and before_after.png into the directory OUT.
    """
    need_extra("client", "tritonclient", "grpc", "PIL")
    from sam_refine_client import RefineClient, RefineError

    with errors_in_one_line(ValueError, RefineError, OSError):
        if ignore_label is not None and not 0 <= ignore_label <= 65535:
            raise InvalidRequestError(
                f"ignore_label must be in [0, 65535] to be written as a PNG, got {ignore_label}"
            )
        options = RefineOptions(
            downsample_ratio=downsample_ratio,
            confidence_threshold=confidence_threshold,
            iou_threshold=iou_threshold,
            mask_prompt=mask_prompt,
            mask_prompt_scale=mask_prompt_scale,
            min_region_area=min_region_area,
            failed_regions=failed_regions,
            multimask_output=multimask_output,
            max_regions=max_regions,
            ignore_label=ignore_label,
        )
        with RefineClient(url) as client:
            result = client.refine(
                image,
                logits=load_array(logits),
                labels=None if labels is None else load_array(labels),
                options=options,
                outputs=("labels", "coarse_labels", "regions"),
                timeout_s=timeout_s,
            )
        paths = write_result(result, image, out)
    print_result(result)
    for path in paths:
        stdout.print(f"{path}", soft_wrap=True)


def load_array(path: Path) -> npt.NDArray[Any]:
    """A .npy file; raises `InvalidRequestError` where it is none (never unpickles)."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, MemoryError, tokenize.TokenError) as error:
        raise InvalidRequestError(f"{path} must be a .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InvalidRequestError(f"{path} must be a .npy file, got an archive of arrays")
    return array


def write_result(
    result: RefineResult,
    image: Path,
    out: Path,
    class_names: list[str] | None = None,
    palette: npt.NDArray[np.uint8] | None = None,
) -> list[Path]:
    """Write labels.png, regions.json and before_after.png; returns their paths.

    `result` has labels, coarse labels and regions.
    """
    from PIL import Image

    from sam_refine_client.pictures import before_after, save_label_png

    assert result.labels is not None
    assert result.coarse_labels is not None
    out.mkdir(parents=True, exist_ok=True)
    labels_png, regions_json, picture_png = paths = [
        out / name for name in ("labels.png", "regions.json", "before_after.png")
    ]
    save_label_png(result.labels, labels_png, palette)
    regions = [asdict(region) for region in result.regions or ()]
    regions_json.write_text(json.dumps(regions, indent=1) + "\n", encoding="utf-8")
    with Image.open(image) as photo:
        picture = before_after(
            np.asarray(photo.convert("RGB")),
            result.coarse_labels,
            result.labels,
            class_names,
            palette,
        )
    picture.save(picture_png, optimize=True)
    return paths
