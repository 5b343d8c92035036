"""The outputs of `sam_refine`, one row each: tensor, the server's value, the client's names for it.

The server's answer, and the client's request, result and files, are made from the rows. A new
output is:

    1. its value: a field of the server's `RegionReport`, and of the client's `Region`;
    2. its row here;
    3. a line in the model's `config.pbtxt` and one in docs/tensors.md, which tests ask for.

Needs numpy and the standard library only.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from sam_refine.contract.tensors import TensorSpec

STAGES: Final = ("downsample", "split_regions", "embed", "prompts", "decode", "judge", "merge")
"""What `STAGE_TIMES_MS` measures, in order: coarse labels and scores on the working grid; regions;
image to embedding; mask prompts and prompt coordinates; mask decoder; judging masks and changes;
merging the maps. A stage that a request did not need took 0."""


class Outcome(IntEnum):
    """What became of a region, as `REGION_OUTCOMES` has it."""

    REFINED = 0
    """A mask of it was taken, whole or in part."""
    LOW_IOU = 1
    """Its mask's predicted IoU was not above `iou_threshold`."""
    NO_MASK = 2
    """None of its masks would change anything, or it is smaller than a cell of SAM's masks."""
    LOW_GAIN = 3
    """The judge foretold too little of its best mask."""
    NO_CHANGE = 4
    """Not one change of its best mask passed the judge."""


REGIONS: Final = "regions"
"""`OutputRow.asked_by` of what each region of the coarse map has."""
EVERY_CALL: Final = "every call"
"""`OutputRow.asked_by` of what the client always asks for."""


@dataclass(frozen=True)
class OutputRow:
    """One value of a refinement, on its way from the server to files of the client."""

    tensor: TensorSpec
    source: str
    """Where the server finds it: attributes of its `Refinement`, such as "regions.scores"."""
    asked_by: str | None = None
    """Which of the client's `outputs` asks for it, or `EVERY_CALL`; None: the client never does."""
    field: str = ""
    """Its field of the client's `Region` if `REGIONS` ask for it, otherwise of `RefineResult`."""
    saved_as: str = ""
    """Its array in the client's result.npz."""
    of_kept: bool = False
    """Whether only the regions that were kept have it."""
    has_uint8: bool = False
    """Whether it is offered a second time, at one byte for each value, as NAME_UINT8."""

    @property
    def uint8_tensor(self) -> TensorSpec | None:
        """The second offer, if there is one."""
        if not self.has_uint8:
            return None
        return replace(self.tensor, name=f"{self.tensor.name}_UINT8", datatype="UINT8")

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """All that offer the value."""
        return (self.tensor,) if self.uint8_tensor is None else (self.tensor, self.uint8_tensor)

    @property
    def is_map(self) -> bool:
        """Whether it has a value for each pixel of the image."""
        return "W" in self.tensor.shape

    def is_in(self, names: Collection[str]) -> bool:
        """Whether one of its tensors is among the names."""
        return any(tensor.name in names for tensor in self.tensors)


OUTPUTS: Final = (
    OutputRow(
        TensorSpec("REFINED_LABELS", "INT32", ("H", "W")),
        source="labels",
        asked_by="labels",
        field="labels",
        saved_as="labels",
        has_uint8=True,
    ),
    OutputRow(
        TensorSpec("REFINED_LOGITS", "FP32", ("C", "H", "W")),
        source="logits",
        asked_by="logits",
        field="logits",
        saved_as="logits",
    ),
    OutputRow(
        TensorSpec("COARSE_LABELS", "INT32", ("H", "W")),
        source="coarse_labels",
        asked_by="coarse_labels",
        field="coarse_labels",
        saved_as="coarse_labels",
        has_uint8=True,
    ),
    OutputRow(
        TensorSpec("IOU_PREDICTIONS", "FP32", ("N",)),
        source="regions.ious",
        of_kept=True,
    ),
    OutputRow(
        TensorSpec("BOXES", "INT32", ("N", 4)),
        source="regions.boxes_xyxy_image",
        of_kept=True,
    ),
    OutputRow(
        TensorSpec("REGION_CLASSES", "INT32", ("Q",)),
        source="regions.classes",
        asked_by=REGIONS,
        field="class_id",
        saved_as="region_classes",
    ),
    OutputRow(
        TensorSpec("REGION_BOXES", "INT32", ("Q", 4)),
        source="regions.boxes_xyxy_image",
        asked_by=REGIONS,
        field="box_xyxy",
        saved_as="region_boxes_xyxy",
    ),
    OutputRow(
        TensorSpec("REGION_SCORES", "FP32", ("Q",)),
        source="regions.scores",
        asked_by=REGIONS,
        field="score",
        saved_as="region_scores",
    ),
    OutputRow(
        TensorSpec("REGION_IOUS", "FP32", ("Q",)),
        source="regions.ious",
        asked_by=REGIONS,
        field="predicted_iou",
        saved_as="region_predicted_ious",
    ),
    OutputRow(
        TensorSpec("REGION_KEPT", "BOOL", ("Q",)),
        source="regions.kept",
        asked_by=REGIONS,
        field="kept",
        saved_as="region_kept",
    ),
    OutputRow(
        TensorSpec("REGION_OUTCOMES", "INT32", ("Q",)),
        source="regions.outcomes",
        asked_by=REGIONS,
        field="outcome",
        saved_as="region_outcomes",
    ),
    OutputRow(
        TensorSpec("REGION_MASKS", "INT32", ("Q",)),
        source="regions.masks",
        asked_by=REGIONS,
        field="mask",
        saved_as="region_masks",
    ),
    OutputRow(
        TensorSpec("REGION_GAINS", "FP32", ("Q",)),
        source="regions.gains",
        asked_by=REGIONS,
        field="gain",
        saved_as="region_gains",
    ),
    OutputRow(
        TensorSpec("STAGE_TIMES_MS", "FP32", (len(STAGES),)),
        source="stage_times_ms",
        asked_by=EVERY_CALL,
        field="timings",
        saved_as="stage_times_ms",
    ),
)
"""In the order of the answer."""
