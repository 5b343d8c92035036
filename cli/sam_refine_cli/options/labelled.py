"""Labelled images: the options of `evaluate` and `tune` that say where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sam_refine.contract import InvalidRequestError
from sam_refine_cli.options.folders import (
    CutSuffixOption,
    DatasetName,
    DatasetOption,
    Images,
    RecursiveOption,
    check_folders,
    images_of,
    warn_of_left_out,
)
from sam_refine_cli.options.groups import OptionGroup, option
from sam_refine_cli.options.inputs import (
    Activation,
    ActivationOption,
    PaletteOption,
    check_has_map,
    read_class_names,
    read_palette_option,
)

if TYPE_CHECKING:
    from sam_refine_quality import SampleFiles

_PANEL: Final = "Input"


@dataclass(frozen=True)
class LabelledImages:
    """What the options say; `samples` looks for the files."""

    images: Images
    logits: Path | None
    truth: Path
    labels: Path | None
    palette: str | None
    activation: Activation | None
    ignore_label: int | None
    limit: int | None
    _class_names: Path | None

    def class_names(self) -> list[str] | None:
        """Of the file. Raises `InvalidRequestError`, `OSError`."""
        from sam_refine_quality.evaluation import check_class_names

        names = read_class_names(self._class_names)
        check_class_names(names)
        return names

    def samples(self) -> Sequence[SampleFiles]:
        """Each image with its files; says on stderr what is left out.

        Raises `InvalidRequestError`, `OSError`.
        """
        from sam_refine_quality import find_samples

        samples = find_samples(
            self.images.path,
            self.logits,
            self.truth,
            labels=self.labels,
            activation=None if self.activation is None else self.activation.value,
            palette=None if self.palette is None else read_palette_option(self.palette),
            limit=self.limit,
            recursive=self.images.recursive,
            cut_suffix=self.images.cut_suffix,
            listed=self.images.listed,
        )
        warn_of_left_out(self.images)
        return samples


def _labelled_images(
    images: Path,
    logits: Path | None,
    truth: Path | None,
    labels: Path | None,
    recursive: bool,
    cut_suffix: str,
    dataset: DatasetName | None,
    class_names: Path | None,
    **others: Any,
) -> LabelledImages:
    source = images_of(images, recursive, cut_suffix, dataset)
    truth = truth or source.label_maps
    if truth is None:
        raise InvalidRequestError("give --truth (what the labels should be), or --dataset")
    check_folders(images, logits=logits, truth=truth, labels=labels)
    check_has_map(logits, labels)
    if logits is None and class_names is None:
        raise InvalidRequestError(
            "--labels without --logits do not say how many classes there are: give "
            "--class-names FILE, a name a line"
        )
    return LabelledImages(source, logits, truth, labels, **others, _class_names=class_names)


LABELLED_IMAGES: Final = OptionGroup(
    (
        option(
            "images",
            Annotated[
                Path,
                typer.Argument(
                    metavar="IMAGES", help="JPEG or PNG, or a folder of them.", exists=True
                ),
            ],
        ),
        option(
            "logits",
            Annotated[
                Path | None,
                typer.Option(
                    metavar="DIR",
                    help="Class scores (C, h, w), as .npy, .npz, .pt or .safetensors: for "
                    "street.jpg the folder has street.npy; for one image it may be the file. Or a "
                    "pattern such as 'scores/{stem}_scores.npy' ({folder}/{stem} is {name}).",
                    rich_help_panel=_PANEL,
                ),
            ],
            None,
        ),
        option(
            "truth",
            Annotated[
                Path | None,
                typer.Option(
                    metavar="DIR",
                    help="What the labels should be, (H, W): PNG in grey, with a palette or in "
                    "colours, .npy, or COCO's .json. A folder as with --logits.",
                    show_default="the label maps of --dataset",
                    rich_help_panel=_PANEL,
                ),
            ],
            None,
        ),
        option(
            "labels",
            Annotated[
                Path | None,
                typer.Option(
                    metavar="DIR",
                    help="Coarse maps (H, W) where they are not the argmax of the scores, or where "
                    "there are none: then --class-names says how many classes there are. Forms as "
                    "of --truth.",
                    rich_help_panel=_PANEL,
                ),
            ],
            None,
        ),
        option("palette", PaletteOption, None),
        option("recursive", RecursiveOption, False),
        option("cut_suffix", CutSuffixOption, ""),
        option("dataset", DatasetOption, None),
        option("activation", ActivationOption, None),
        option(
            "ignore_label",
            Annotated[
                int | None,
                typer.Option(
                    metavar="N",
                    help="Pixels with this label in the truth are void: they do not count.",
                    rich_help_panel=_PANEL,
                ),
            ],
            None,
        ),
        option(
            "limit",
            Annotated[
                int | None,
                typer.Option(
                    metavar="N",
                    help="Only the first images, by name.",
                    min=1,
                    rich_help_panel=_PANEL,
                ),
            ],
            None,
        ),
        option(
            "class_names",
            Annotated[
                Path | None,
                typer.Option(
                    metavar="FILE",
                    help="Names of classes 0, 1, ..., a line each, or a JSON list, or by id.",
                    exists=True,
                    dir_okay=False,
                    rich_help_panel=_PANEL,
                ),
            ],
            None,
        ),
    ),
    _labelled_images,
)
