"""The mask decoder: ours, segment-anything's in PyTorch, the same exported plainly, the limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from onnxruntime import InferenceSession

from sam_refine.algorithm.postprocess import low_res_size
from sam_refine.algorithm.prompts import Prompts
from sam_refine.contract import MOST_PROMPTS, MaskChoice
from sam_refine.service.images import to_canvas
from sam_refine_benchmarks.measuring import operations
from sam_refine_benchmarks.measuring.pairs import Latest, Timing, interleave
from sam_refine_benchmarks.measuring.results import (
    Claim,
    Figure,
    Result,
    Series,
    dearer,
    faster,
    limit_claim,
)
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides import inputs, ours, straight
from sam_refine_benchmarks.sides.networks import (
    exported_networks,
    plain_decoder,
    pytorch_networks,
)
from sam_refine_client.transport.local_networks import Networks
from sam_refine_export.networks.sam_networks import SamNetworks

Float32 = npt.NDArray[np.float32]

SIZE_IMAGE: Final = (360, 480)
PROMPTS_OF_A_CLASS: Final = 8
LARGEST_LOGIT_DIFFERENCE: Final = 1e-2
MOST_OF_THE_LIMIT: Final = 1.5
LEAST_OF_PLAIN: Final = 2
MOST_OF_ONE_MASK: Final = 1.15


def run(setting: Setting) -> Result:
    """At N = 32 prompts of K = 4 classes, P = 3; then per prompt against N."""
    exported = exported_networks(setting.model_repository)
    networks = pytorch_networks()
    embedding = exported.embed(*to_canvas(inputs.photo(*SIZE_IMAGE)))
    plain = operations.session(plain_decoder(networks, setting.scratch))

    count = 8 if setting.quick else 32
    sides = Sides(networks, plain, exported, embedding, count)
    runs = {
        "straight": Latest(sides.straight),
        "plain": Latest(sides.plain),
        "ours": Latest(sides.ours),
    }
    kept = sides.kept_prompts()
    all_four = replace(sides.prompts, choice=MaskChoice.ALL)
    multiply_adds = ours.decoder_multiply_adds(exported, embedding, sides.prompts)
    timings = interleave(
        {
            **runs,
            "ours, half kept": lambda: exported.decode(embedding, kept),
            "ours, all four": lambda: exported.decode(embedding, all_four),
            "matrix product": operations.matrix_product(),
        },
        setting.budget_s(60, 12),
    )
    difference = largest_difference([run.result for run in runs.values()])
    limit_s = operations.limit_s(multiply_adds, timings["matrix product"])

    counts = (1, 8) if setting.quick else (1, 2, 4, 8, 16, MOST_PROMPTS)
    curves = against_count(networks, plain, exported, embedding, counts, setting)
    return Result(
        claims=_claims(timings, limit_s, count),
        data={
            "prompts": count,
            "largest_logit_difference": difference,
            "multiply_adds": multiply_adds,
            "matrix_product_gflops": operations.gigaflops(timings["matrix product"]),
            "limit_s": limit_s,
            "timings": {name: timing.to_json() for name, timing in timings.items()},
            "against_prompts": {
                name: {n: timing.to_json() for n, timing in curve.items()}
                for name, curve in curves.items()
            },
        },
        figures=(_figure(curves),),
    )


@dataclass(frozen=True)
class Sides:
    """One set of prompts for all three sides."""

    networks: SamNetworks
    plain_session: InferenceSession
    exported: Networks
    embedding: Float32
    count: int

    @cached_property
    def prompts(self) -> Prompts:
        return inputs.decoder_prompts(self.count, -(-self.count // PROMPTS_OF_A_CLASS))

    @torch.inference_mode()
    def straight(self) -> Float32:
        """One call for each class."""
        prompts = {
            name: torch.from_numpy(array) for name, array in self.prompts.decoder_inputs().items()
        }
        embedding = torch.from_numpy(self.embedding)
        logits = []
        for class_id, mask_prompt in enumerate(prompts["mask_prompts"]):
            coords = prompts["point_coords"][prompts["mask_index"] == class_id]
            boxes = coords[:, 1:].reshape(-1, 4)
            mask = mask_prompt[None]
            logits.append(straight.predict(self.networks, embedding, coords[:, 0], boxes, mask)[0])
        low_res_logits: Float32 = torch.cat(logits).numpy()
        return low_res_logits

    def plain(self) -> Float32:
        """All prompts in one call, each with a mask prompt of its own."""
        prompts = self.prompts.decoder_inputs()
        coords = prompts["point_coords"]
        feeds = {
            "image_embedding": self.embedding,
            "point_coords": coords[:, :1],
            "point_labels": np.ones((self.count, 1), np.float32),
            "boxes": coords[:, 1:].reshape(-1, 4),
            "mask_prompts": prompts["mask_prompts"][prompts["mask_index"]],
        }
        logits: Float32 = self.plain_session.run(["low_res_logits"], feeds)[0][:, 0]
        return logits

    def ours(self) -> Float32:
        """All prompts in one call, as the pipeline makes it."""
        return self.exported.decode(self.embedding, self.prompts)[0][:, 0]

    def kept_prompts(self) -> Prompts:
        """What Algorithm 4 asks for: masks above a predicted IoU, as far as the image goes."""
        ious = self.exported.decode(self.embedding, self.prompts)[1]
        return replace(
            self.prompts,
            iou_threshold=float(np.median(ious)),
            low_res_size=low_res_size(SIZE_IMAGE),
        )


def largest_difference(logits: Sequence[Float32]) -> float:
    """Between the low-resolution logits of one side and those of the others.

    Raises `RuntimeError` where they do not compute the same.
    """
    difference = max(float(np.abs(logits[0] - others).max()) for others in logits[1:])
    if difference > LARGEST_LOGIT_DIFFERENCE:
        raise RuntimeError(f"the decoders differ by {difference:.2g} in their logits")
    return difference


def against_count(
    networks: SamNetworks,
    plain: InferenceSession,
    exported: Networks,
    embedding: Float32,
    counts: tuple[int, ...],
    setting: Setting,
) -> dict[str, dict[int, Timing]]:
    """Timings of a call with N prompts by side and N; PyTorch to its class's eight only."""
    alternatives: dict[str, Callable[[], object]] = {}
    for n in counts:
        sides = Sides(networks, plain, exported, embedding, n)
        if n <= PROMPTS_OF_A_CLASS:
            alternatives[f"straight {n}"] = sides.straight
        alternatives[f"plain {n}"] = sides.plain
        alternatives[f"ours {n}"] = sides.ours
    timings = interleave(alternatives, setting.budget_s(30, 4))
    return {
        side: {n: timings[f"{side} {n}"] for n in counts if f"{side} {n}" in timings}
        for side in ("straight", "plain", "ours")
    }


def _claims(timings: Mapping[str, Timing], limit_s: float, count: int) -> tuple[Claim, ...]:
    what = f"mask decoder, {count} prompts, per prompt"
    half_kept = f"mask decoder, {count} prompts, masks of half of them kept, per prompt"
    exported, product = timings["ours"], timings["matrix product"]
    return (
        limit_claim(
            f"{what}: arithmetic limit", limit_s, exported, product, MOST_OF_THE_LIMIT, count
        ),
        faster(f"{what}: plain export", timings["plain"], exported, LEAST_OF_PLAIN, count),
        faster(f"{what}: PyTorch", timings["straight"], exported, share=count),
        faster(
            f"{half_kept}: PyTorch", timings["straight"], timings["ours, half kept"], share=count
        ),
        dearer(
            f"mask decoder, {count} prompts, all four masks of each, per prompt: one mask",
            exported,
            timings["ours, all four"],
            MOST_OF_ONE_MASK,
            count,
        ),
    )


def _figure(curves: Mapping[str, Mapping[int, Timing]]) -> Figure:
    names = {
        "straight": "PyTorch, a call per class of 8",
        "plain": "plain export, ONNX Runtime",
        "ours": "ours",
    }
    series = []
    for side, curve in curves.items():
        whole = Series.of(names[side], curve, 1000)
        each: dict[str, Any] = {
            key: tuple(value / n for value, n in zip(getattr(whole, key), whole.x, strict=True))
            for key in ("y", "low", "high")
        }
        series.append(Series(whole.name, whole.x, **each))
    return Figure(
        "decoder", "Mask decoder", "prompts in a call", "ms per prompt", tuple(series), True
    )
