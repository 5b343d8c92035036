"""`tune`: a judge of masks for one network, learned from labelled images, and what it is worth."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sam_refine.algorithm.prompts import Prompts
from sam_refine.algorithm.scores import ClassScores
from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine.numerics.arrays import Float32, Labels
from sam_refine_client import Embedding, RefineClient, RefineError
from sam_refine_client.reading.arrays import numpy_of, unwrapped
from sam_refine_client.reading.notes import Notes
from sam_refine_client.request import ScoresDtype, score_tensors
from sam_refine_quality.data.samples import AnySample, SampleFiles
from sam_refine_quality.evaluation import FATAL
from sam_refine_quality.metrics.bootstrap import RESAMPLES, resample
from sam_refine_quality.metrics.statistics import ChangeSums, MapSums, Numbers
from sam_refine_quality.reading import ReadSample
from sam_refine_quality.result import PairFigures, ends_of, number_of
from sam_refine_quality.tuning.learn import FOLDS, OnStep, TreesJudge, cross_validate, learn
from sam_refine_quality.tuning.recording import Recording

LEAST_GAINS: Final = (0.0, 0.1, 0.2, 0.3)
"""Values of `min_gain` that are tried."""
LARGEST_LOSS: Final = 0.5
"""By how much, in percentage points of IoU, a class may lose."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """A judge, and what it is worth on images that it has not seen."""

    judge: TreesJudge
    options: RefineOptions
    """With which it is to be used."""
    figures: PairFigures
    """Of maps by judges learned from the other images: arrays (), and (C,) by class."""
    intervals: PairFigures
    """(2,) the ends of 95 % intervals, over groups of images."""
    doubts: tuple[str, ...]
    """Why it is not to be used; none where it is."""
    names: tuple[str, ...]
    """Of the images."""
    digests: dict[str, str]
    """SHA-256 of what each image's scores and truth were."""
    groups: int
    class_names: tuple[str, ...]
    failed: dict[str, str]
    """Images that nothing was learned of, by name, and why."""

    @property
    def is_recommended(self) -> bool:
        return not self.doubts


def tune(
    client: RefineClient,
    samples: Iterable[AnySample],
    *,
    groups: Sequence[Hashable] | None = None,
    ignore_label: int | None = None,
    class_names: Sequence[str] | None = None,
    timeout_s: float | None = None,
    on_step: OnStep = lambda step: None,
    watch: Callable[[str], object] = lambda name: None,
    warn: Callable[[str, str], object] = lambda name, warning: None,
    fail: Callable[[str, Exception], object] = lambda name, error: None,
) -> Tuned:
    """Learn a judge of masks from labelled images, and try it on images that it has not seen.

    `samples` and `ignore_label` are those of `evaluate`. `groups` has a group for each sample, such
    as the video that it is from: a judge is never tried on a group that it has learned from; by
    default each image is one. `watch` is told of each image that is ready, `warn` of what was
    doubtful about one, `fail` of one that fails: it is in `Tuned.failed`, and the others go on.

    Raises `InvalidRequestError` for fewer than two groups, and where there is nothing to learn;
    `UnreachableError`, `ForbiddenError` and `ProtocolError`, which all images would have.
    """
    recordings: list[Recording] = []
    digests: dict[str, str] = {}
    failed: dict[str, str] = {}
    of_image = itertools.count() if groups is None else iter(groups)
    of_group: list[Hashable] = []
    classes, options = None, RefineOptions.of_preset("judged")
    for source in samples:
        group = next(of_image, None)
        try:
            sample = source.read() if isinstance(source, SampleFiles) else source
            notes = Notes(sample.warnings)
            read = ReadSample.of(
                sample,
                notes,
                classes=None if class_names is None else len(class_names),
                void=ignore_label,
                like=classes,
            )
            recording = record(client, read, options, timeout_s)
        except FATAL:
            raise
        except (InvalidRequestError, RefineError, OSError) as error:
            failed[source.name] = str(error)
            fail(source.name, error)
            continue
        for warning in notes.sentences:
            warn(sample.name, warning)
        classes = recording.truth.classes
        recordings.append(recording)
        of_group.append(group)
        digests[sample.name] = _digest(read)
        watch(sample.name)
    _check_groups(groups, of_group, failed)
    assert classes is not None
    if not any(recording.truth.valid.any() for recording in recordings):
        raise InvalidRequestError(
            f"truth must have pixels that are not void, which is {ignore_label}: there is none"
        )
    if not any(len(recording.regions) for recording in recordings):
        raise InvalidRequestError("coarse maps must have regions to learn from, got none")
    maps = cross_validate(recordings, of_group, LEAST_GAINS, on_step)
    tried = [
        figures_of(recordings, [each[index] for each in maps], of_group)
        for index in range(len(LEAST_GAINS))
    ]
    best = _best([figures for figures, _ in tried])
    figures, intervals = tried[best]
    on_step(f"learn from all {len(recordings)} images")
    names = tuple(class_names or map(str, range(classes)))
    return Tuned(
        learn(recordings, of_group),
        RefineOptions.of_preset("judged", min_gain=LEAST_GAINS[best]),
        figures,
        intervals,
        _doubts(figures, intervals, names, recordings),
        tuple(recording.name for recording in recordings),
        digests,
        len(set(of_group)),
        names,
        failed,
    )


def record(
    client: RefineClient,
    read: ReadSample,
    options: RefineOptions,
    timeout_s: float | None = None,
) -> Recording:
    """What SAM draws for a labelled image. Raises `RefineError` and `InvalidRequestError`."""
    coarse, name = read.coarse(None), read.sample.name
    (values,) = score_tensors(coarse.scores, ScoresDtype.AUTO).values()
    embedding = client.embed(read.image, timeout_s=timeout_s)

    def decode(values: Float32, prompts: Prompts) -> tuple[Float32, Float32]:
        inputs = prompts.decoder_inputs()
        return client.draw_masks(Embedding(values, embedding.size_hw), inputs, timeout_s=timeout_s)

    return Recording.of(
        name,
        ClassScores(values, read.size_hw),
        coarse.labels,
        read.truth,
        embedding.values,
        decode,
        coarse.options(options),
    )


def _check_groups(
    groups: Sequence[Hashable] | None, of_group: Sequence[Hashable], failed: Mapping[str, str]
) -> None:
    """Raise `InvalidRequestError` where not each image has a group, or all that are left are one's.

    `of_group` has the groups of those that have not `failed`.
    """
    images = len(of_group) + len(failed)
    if groups is not None and len(groups) != images:
        raise InvalidRequestError(
            f"groups must have one for each of {images} images, got {len(groups)}"
        )
    found = len(set(of_group))
    if found < 2:
        kind = "images" if groups is None else "groups of images"
        first = next(iter(failed.items()), None)
        because = "" if first is None else f"; {len(failed)} failed, {first[0]}: {first[1]}"
        raise InvalidRequestError(
            f"a judge must be tried on images that it has not seen: at least 2 {kind} are needed, "
            f"got {found}{because}"
        )


def figures_of(
    recordings: Sequence[Recording], maps: Sequence[Labels], groups: Sequence[Hashable]
) -> tuple[PairFigures, PairFigures]:
    """The figures of refined maps against the coarse ones, and their intervals."""
    coarse, refined, changed = [], [], []
    for recording, labels in zip(recordings, maps, strict=True):
        coarse.append(MapSums.of(recording.truth, recording.labels, "labels"))
        refined.append(MapSums.of(recording.truth, labels, "refined labels"))
        changed.append(ChangeSums.of(recording.truth, recording.labels, labels))
    sums = MapSums.stacked(coarse), MapSums.stacked(refined), ChangeSums.stacked(changed)
    times = _times_drawn(groups)
    drawn = PairFigures.of(*(each.added(times) for each in sums))  # type: ignore[arg-type]
    figures = PairFigures.of(*(each.added() for each in sums))  # type: ignore[arg-type]
    return figures, drawn.intervals()


def _times_drawn(groups: Sequence[Hashable]) -> Numbers:
    """(R, n) how often each image is drawn where whole groups are."""
    ids = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    times: Numbers = resample(len(ids), RESAMPLES)[:, [ids[group] for group in groups]]
    return times


def _best(tried: Sequence[PairFigures]) -> int:
    """The one of the highest mIoU, of those where no class loses much if there are such."""

    def rank(figures: PairFigures) -> tuple[bool, float]:
        loss = float(np.nanmin(figures.difference.iou_by_class))
        return loss >= -LARGEST_LOSS, float(figures.difference.miou)

    return max(range(len(tried)), key=lambda index: rank(tried[index]))


def _doubts(
    figures: PairFigures,
    intervals: PairFigures,
    class_names: tuple[str, ...],
    recordings: Sequence[Recording],
) -> tuple[str, ...]:
    """In a sentence each, why the judge is not to be used."""
    doubts = []
    gain, low = float(figures.difference.miou), float(intervals.difference.miou[0])
    if not low > 0:
        doubts.append(
            f"mIoU gains {gain:+.2f}, which may be chance: the interval begins at {low:+.2f}"
        )
    for name, change in zip(class_names, figures.difference.iou_by_class, strict=False):
        if change < -LARGEST_LOSS:
            doubts.append(f"class {name} loses {-change:.2f} of IoU")
    in_map = {
        int(each) for recording in recordings for each in np.unique(recording.regions.classes)
    }
    for class_id in sorted(in_map):
        if np.isnan(figures.coarse.iou_by_class[class_id]):
            doubts.append(
                f"class {class_names[class_id]} is in coarse maps, but nowhere in the truth: "
                "nothing could be learned of it"
            )
    return tuple(doubts)


def _digest(read: ReadSample) -> str:
    """SHA-256 of scores and truth, as they were given; of labels where there are no scores."""
    sample, digest = read.sample, hashlib.sha256()
    given = (
        read.coarse(None).labels
        if sample.logits is None
        else numpy_of("logits", unwrapped("logits", sample.logits))
    )
    assert given is not None
    for array in (given, sample.truth):
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def to_json(tuned: Tuned) -> dict[str, Any]:
    """Figures in percent, their intervals, and the verdict."""

    return {
        "cross_validated": {
            **tuned.figures.to_json(tuned.class_names, number_of),
            "intervals": tuned.intervals.to_json(tuned.class_names, ends_of),
        },
        "recommended": tuned.is_recommended,
        "doubts": list(tuned.doubts),
        "options": tuned.options.to_parameters(),
        "images": len(tuned.names),
        "failed": tuned.failed,
        "groups": tuned.groups,
        "folds": min(FOLDS, tuned.groups),
    }
