"""`evaluate`: coarse and refined maps of labelled images, held against the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_client import (
    Activation,
    ForbiddenError,
    ProtocolError,
    RefineClient,
    RefineError,
    RefineResult,
    UnreachableError,
)
from sam_refine_client.arrays import Labels
from sam_refine_client.files.saving import check_names
from sam_refine_client.reading.notes import Notes
from sam_refine_quality.data.option_sets import DEFAULT_SET, check_option_sets
from sam_refine_quality.data.samples import AnySample, Sample, SampleFiles
from sam_refine_quality.metrics.bootstrap import RESAMPLES, resample
from sam_refine_quality.metrics.figures import ChangeFigures, MapFigures
from sam_refine_quality.metrics.statistics import ChangeSums, MapSums, confusion_matrix
from sam_refine_quality.metrics.truth import Truth
from sam_refine_quality.reading import ReadSample
from sam_refine_quality.result import (
    Evaluation,
    ImageEvaluation,
    PairFigures,
    SetEvaluation,
    SetImage,
)

FATAL = (UnreachableError, ForbiddenError, ProtocolError)
"""Errors that every image after this one would have, too."""
Confusion: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Refined:
    """What one set of options made of an image."""

    coarse_labels: Labels
    """(H, W)."""
    labels: Labels
    """(H, W)."""
    coarse: MapSums
    refined: MapSums
    changed: ChangeSums
    regions_kept: int
    regions_failed: int
    seconds: float

    @property
    def gain(self) -> float:
        """Pixel accuracy refined minus coarse, in percentage points; NaN where all is void."""
        return float(MapFigures.of(self.refined).accuracy - MapFigures.of(self.coarse).accuracy)


@dataclass(frozen=True, eq=False)
class ImageOutcome:
    """What came of one image, as soon as it is there: its maps, or an error."""

    name: str
    sample: Sample | None = None
    truth: Truth | None = None
    by_set: Mapping[str, Refined] = field(default_factory=dict)
    """By the names of the option sets; empty where there is an error."""
    embed_seconds: float = 0.0
    error: Exception | None = None
    warnings: tuple[str, ...] = ()
    """What was doubtful about its scores, labels or truth, and how it was taken."""


def evaluate(
    client: RefineClient,
    samples: Iterable[AnySample],
    option_sets: Mapping[str, RefineOptions] | None = None,
    *,
    ignore_label: int | None = None,
    class_names: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    timeout_s: float | None = None,
    watch: Callable[[ImageOutcome], object] = lambda outcome: None,
) -> Evaluation:
    """Refine labelled images with each set of options, and compare with the truth.

    `samples` are `Sample`s, or `find_samples` of a folder, taken one at a time; all have the same
    number of classes C. Each image is embedded once and refined once for each different set of
    options; by default there is one, of the defaults. Pixels whose truth is `ignore_label` do not
    count. `class_names` are those of classes 0, 1, ...; samples of labels without scores need them,
    to know how many classes there are. The intervals are those of `resamples` draws
    of the images, the same for every figure. `timeout_s` is for each call. `watch` is told of each
    image, in order; no map is kept here.

    An image that fails is in `Evaluation.failed`, and the others go on. Raises
    `UnreachableError`, `ForbiddenError` and `ProtocolError`, which the others would have, too; and
    `InvalidRequestError` for arguments that break a rule, and where no image could be evaluated or
    all of the truth is void.
    """
    sets = {DEFAULT_SET: RefineOptions()} if option_sets is None else dict(option_sets)
    check_option_sets(sets)
    check_class_names(class_names)
    tally = _Tally(sets, ignore_label, class_names)
    with client.same_image():
        for source in samples:
            try:
                sample = source.read() if isinstance(source, SampleFiles) else source
                outcome = _outcome(client, sample, tally, timeout_s)
            except (InvalidRequestError, RefineError, OSError) as error:
                outcome = ImageOutcome(source.name, error=error)
            tally.add(outcome)
            watch(outcome)
            if isinstance(outcome.error, FATAL):
                raise outcome.error
    return tally.evaluation(resamples, seed)


def check_class_names(class_names: Sequence[str] | None) -> None:
    """Raise `InvalidRequestError` unless they are different texts, by which figures can go."""
    if class_names is None:
        return
    check_names(class_names)
    for index, name in enumerate(class_names):
        if name in class_names[:index]:
            raise InvalidRequestError(f"class_names must be different, got {name!r} twice")


def _outcome(
    client: RefineClient, sample: Sample, tally: _Tally, timeout_s: float | None
) -> ImageOutcome:
    """Raises `InvalidRequestError`, `RefineError`, `OSError`."""
    notes = Notes(sample.warnings)
    read = ReadSample.of(
        sample,
        notes,
        classes=tally.named_classes,
        void=tally.ignore_label,
        like=tally.classes,
    )
    truth = read.truth
    started_s = time.monotonic()
    embedding = client.embed(read.image, timeout_s=timeout_s)
    embed_seconds = time.monotonic() - started_s
    by_options: dict[RefineOptions, Refined] = {}
    # In local mode the decoder's answer at a low threshold serves at a higher one.
    for options in sorted(set(tally.sets.values()), key=lambda options: options.iou_threshold):
        coarse = read.coarse(options.ignore_label)
        started_s = time.monotonic()
        result = client.refine(
            embedding=embedding,
            logits=coarse.scores,
            activation=Activation.NONE,
            labels=coarse.labels,
            options=coarse.options(options),
            timeout_s=timeout_s,
        )
        by_options[options] = _refined(truth, result, time.monotonic() - started_s)
    by_set = {name: by_options[options] for name, options in tally.sets.items()}
    return ImageOutcome(sample.name, sample, truth, by_set, embed_seconds, warnings=notes.sentences)


def _refined(truth: Truth, result: RefineResult, seconds: float) -> Refined:
    coarse, refined, regions = result.coarse_labels, result.labels, result.regions
    assert coarse is not None
    assert refined is not None
    assert regions is not None
    kept = sum(region.kept for region in regions)
    return Refined(
        coarse,
        refined,
        MapSums.of(truth, coarse, "coarse_labels"),
        MapSums.of(truth, refined, "labels"),
        ChangeSums.of(truth, coarse, refined),
        kept,
        len(regions) - kept,
        seconds,
    )


class _Tally:
    """What is kept of the images: sums, not maps."""

    def __init__(
        self,
        sets: Mapping[str, RefineOptions],
        ignore_label: int | None,
        class_names: Sequence[str] | None,
    ) -> None:
        self.sets = sets
        self.ignore_label = ignore_label
        self._class_names = class_names
        self.classes: int | None = None
        self._images: list[ImageEvaluation] = []
        self._sums: dict[str, list[tuple[MapSums, MapSums, ChangeSums]]] = {}
        self._confusions: dict[str, list[Confusion]] = {}
        self._failed: dict[str, str] = {}
        self._embed_seconds = 0.0

    @property
    def named_classes(self) -> int | None:
        """How many classes have names, if any have."""
        return None if self._class_names is None else len(self._class_names)

    def add(self, outcome: ImageOutcome) -> None:
        """Count an image; raises `InvalidRequestError` where its classes lack names."""
        if outcome.truth is None:
            self._failed[outcome.name] = str(outcome.error)
            return
        self.classes, names = outcome.truth.classes, self._class_names
        if names is not None and len(names) < self.classes:
            raise InvalidRequestError(
                f"class_names must have a name for each of {self.classes} classes, got {len(names)}"
            )
        self._embed_seconds += outcome.embed_seconds
        images: dict[str, SetImage] = {}
        for name, each in outcome.by_set.items():
            self._sums.setdefault(name, []).append((each.coarse, each.refined, each.changed))
            found = [
                confusion_matrix(outcome.truth, labels)
                for labels in (each.coarse_labels, each.labels)
            ]
            before = self._confusions.get(name)
            self._confusions[name] = (
                found if before is None else [a + b for a, b in zip(before, found, strict=True)]
            )
            images[name] = SetImage(
                float(MapFigures.of(each.coarse).accuracy),
                float(MapFigures.of(each.refined).accuracy),
                float(ChangeFigures.of(each.changed).fraction),
                each.regions_kept,
                each.regions_failed,
                each.seconds,
            )
        valid_pixels = int(np.count_nonzero(outcome.truth.valid))
        self._images.append(ImageEvaluation(outcome.name, valid_pixels, images))

    def evaluation(self, resamples: int, seed: int) -> Evaluation:
        """What all of it comes to; raises `InvalidRequestError` where that is nothing."""
        if not self._images or self.classes is None:
            first = next(iter(self._failed.items()), None)
            because = "there is none" if first is None else f"{first[0]}: {first[1]}"
            raise InvalidRequestError(f"no image could be evaluated: {because}")
        if not any(image.valid_pixels for image in self._images):
            raise InvalidRequestError(
                f"truth must have pixels that are not void, which is {self.ignore_label}: "
                f"there is none in {len(self._images)} images, of which the first is "
                f"{self._images[0].name}"
            )
        count = len(self._images)
        times = resample(count, resamples, seed) if count > 1 else None
        names = self._class_names or list(map(str, range(self.classes)))
        return Evaluation(
            {name: self._set_evaluation(name, times) for name in self.sets},
            tuple(self._images),
            dict(self._failed),
            tuple(names[: self.classes]),
            self.ignore_label,
            self._embed_seconds / count,
            resamples,
            seed,
        )

    def _set_evaluation(self, name: str, times: npt.NDArray[np.float64] | None) -> SetEvaluation:
        coarse, refined, changed = zip(*self._sums[name], strict=True)
        sums = MapSums.stacked(coarse), MapSums.stacked(refined), ChangeSums.stacked(changed)
        before, after, changes = sums
        images = [image.option_sets[name] for image in self._images]
        confusion_coarse, confusion_refined = self._confusions[name]
        intervals = None
        if times is not None:
            drawn = PairFigures.of(before.added(times), after.added(times), changes.added(times))
            intervals = drawn.intervals()
        return SetEvaluation(
            options=self.sets[name],
            figures=PairFigures.of(before.added(), after.added(), changes.added()),
            intervals=intervals,
            confusion_coarse=confusion_coarse,
            confusion_refined=confusion_refined,
            regions_kept=sum(image.regions_kept for image in images),
            regions_failed=sum(image.regions_failed for image in images),
            seconds_per_image=sum(image.seconds for image in images) / len(images),
        )
