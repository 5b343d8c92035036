"""Options of a request: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np

from sam_refine.contract.checks import InvalidRequestError, shown
from sam_refine.contract.limits import MAX_SCORE
from sam_refine.contract.presets import PRESETS
from sam_refine.contract.rows import Choice, OptionTable, option
from sam_refine.contract.serving.turns import WORK_TIME_S

IMAGE_ID: Final = "image_id"
"""Request parameter: the caller's own name of an image, 1 to 256 characters. A later request with
the same name and image size takes the embedding of the first and does not look at its pixels, where
the deployment allows that (`Limits.allow_image_ids`)."""
MAX_IMAGE_ID: Final = 256
PRESET: Final = "preset"
"""Request parameter: the name of a set of options, which others of the request change."""
_INT32: Final = np.iinfo(np.int32)


class MaskPrompt(Choice):
    """How a class's scores go to SAM as a mask prompt."""

    NONE = "none", "not at all, a point and a box decide"
    SAM = "sam", "as Meta's code passes a mask"
    TRIDENT = "trident", "as Trident's published code does, without the batch axis"


class FailedRegions(Choice):
    """What happens to labels where a region's predicted IoU was too low."""

    SCORES_ONLY = "scores_only", "masks of neighbours may still change it, as in the published code"
    COMPETE = "compete", "it is restored if the best coarse score is above the best refined one"
    KEEP_COARSE = "keep_coarse", "it always stays"


class JudgeKind(Choice):
    """Who says which of SAM's masks are taken."""

    NONE = "none", "nobody, predicted IoUs decide, as published"
    RULE = "rule", "a fixed rule, which weighs SAM's certainty against the network's own"
    LEARNED = "learned", "the repository's judge, which `sam-refine tune` has learned"


@dataclass(frozen=True)
class RefineOptions(OptionTable):
    """Options of one request; the defaults are Algorithm 4 as listed.

    Raises `InvalidRequestError` for a value that breaks its option's rule.
    """

    downsample_ratio: int = option(
        2,
        range=(1, 64),
        label="Downsample ratio",
        help="Regions are found on a grid whose cells are this many pixels wide. A larger value is "
        "faster but misses smaller things.",
        reason="As published. Lower it if things are only a few pixels wide; raise it if a request "
        "is too large.",
    )
    """r."""
    confidence_threshold: float = option(
        0.0,
        range=(0.0, MAX_SCORE),
        label="Confidence threshold",
        help="Places where every class scores lower belong to no region, nor do classes that "
        "nowhere score as much. 0 turns this off, below 0 too.",
        reason="Off, as published. Raise it if the network is often unsure and its unsure pixels "
        "should not shape a region.",
    )
    """tau_c."""
    iou_threshold: float = option(
        0.8,
        range=(0.0, 1.0),
        label="IoU threshold",
        help="A region is refined only if SAM predicts a higher IoU for its mask.",
        reason="As published. Lower it if too little changes; raise it if masks are wrong.",
    )
    """tau_iou."""
    mask_prompt: MaskPrompt = option(
        MaskPrompt.TRIDENT,
        label="Mask prompt",
        help="How SAM is shown the coarse scores of a class.",
        reason="As published; on CamVid it also measured better than `sam` at every threshold. Try "
        "`sam` for SAM as Meta wrote it, `none` if you trust boxes more than scores.",
    )
    mask_prompt_scale: float = option(
        0.005,
        range=(0.0, 1e6),
        label="Mask prompt scale",
        help="Scores are multiplied by this before SAM is shown them.",
        reason="As published. Change it if you use `sam`, or if your scores are not probabilities.",
    )
    """tau_m."""
    min_region_area: int = option(
        0,
        range=(0, _INT32.max),
        label="Smallest region",
        help="Regions of fewer grid cells than this are not refined, and masks of neighbours may "
        "cover them. A larger value is faster.",
        reason="Off, because it loses small things. Raise it if the map has specks, in proportion "
        "to your images: 225 is the published value, which at ratio 2 is 30 x 30 pixels.",
    )
    failed_regions: FailedRegions = option(
        FailedRegions.KEEP_COARSE,
        label="Regions that failed",
        help="What becomes of the coarse label where SAM's mask of a region was not used.",
        reason="What SAM is not sure of stays as it was; on three sets of street images this "
        "measured better than `scores_only`. Use `scores_only` to reproduce published numbers.",
    )
    multimask_output: bool = option(
        False,
        label="Best of three masks",
        help="Use the one of SAM's three masks with the highest predicted IoU, instead of its "
        "single mask.",
        reason="Off, as published. Turn it on if masks swallow parts of their neighbours.",
    )
    judge: JudgeKind = option(
        JudgeKind.NONE,
        label="Judge of masks",
        help="Who says which of SAM's masks, and which of their pixels, are taken; with a judge, "
        "all four masks of a region are tried.",
        reason="Nobody, as published, which often makes maps worse. `rule` measured better than "
        "the coarse map on each kind of map; `learned` gains most, for the network that it knows.",
    )
    min_gain: float = option(
        0.0,
        range=(-1.0, 1.0),
        label="Least gain",
        help="With a judge, pixels change where the chance of turning right exceeds that of "
        "turning wrong by more than this.",
        reason="Whatever is more likely right than wrong. Raise it to change less, more safely.",
    )
    max_regions: int | None = option(
        None,
        range=(1, _INT32.max),
        label="Most regions",
        help="Refuse maps with more regions than this. The server's own limit holds as well.",
        reason="Only the server's limit holds. Set it if no request may take long.",
        on_page=False,  # a guard for machines
    )
    ignore_label: int | None = option(
        None,
        range=(_INT32.min, _INT32.max),
        label="Ignore label",
        help='Pixels with this coarse label keep it, such as 255 for "void".',
        reason="Every pixel may change. Set it if some are unlabelled, or right already.",
        on_page=False,  # there it goes with a label map
    )

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, object]) -> RefineOptions:
        """Read request parameters; a value may also come as its decimal text.

        `preset` names one of `PRESETS`, which the other options change. Raises
        `InvalidRequestError` for an unknown name or a value that breaks its option's rule.
        """
        values = dict(parameters)
        preset = values.pop(PRESET, None)
        for name in values:
            if name not in cls.rows:
                raise InvalidRequestError(
                    f"parameter {shown(name)} is not an option; the options are "
                    f"{', '.join(sorted(cls.rows))}, besides {IMAGE_ID}, {PRESET} and {WORK_TIME_S}"
                )
        if preset is not None:
            values = {**_of_preset(preset), **values}
        return cls(**values)  # type: ignore[arg-type]

    @classmethod
    def of_preset(cls, name: str, **changes: object) -> RefineOptions:
        """The options of one of `PRESETS`, some of them changed; raises `InvalidRequestError`."""
        return cls.from_parameters({PRESET: name, **changes})

    def to_parameters(self) -> dict[str, str | int | float | bool]:
        """As request parameters; options that are None are left out."""
        values = {name: getattr(self, name) for name in self.rows}
        return {
            name: value.value if isinstance(value, Enum) else value
            for name, value in values.items()
            if value is not None
        }


def _of_preset(name: object) -> Mapping[str, object]:
    if not isinstance(name, str) or name not in PRESETS:
        raise InvalidRequestError(
            f"{PRESET} must be one of {', '.join(PRESETS)}, got {shown(name)}"
        )
    return PRESETS[name]
