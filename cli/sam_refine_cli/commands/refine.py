"""`sam-refine refine`: one image or a folder of them, with their coarse maps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_cli.console import errors_in_one_line, need_extra, print_result, stdout
from sam_refine_cli.folder_run import FolderRun
from sam_refine_cli.options.connection import CONNECTION, Connection
from sam_refine_cli.options.folders import (
    ConcurrencyOption,
    CutSuffixOption,
    DatasetOption,
    RecursiveOption,
    check_folders,
    images_of,
    warn_of_left_out,
)
from sam_refine_cli.options.groups import usage_errors, with_options
from sam_refine_cli.options.inputs import (
    ActivationOption,
    PaletteOption,
    check_has_map,
    read_class_names,
    read_palette_option,
)
from sam_refine_cli.options.refinement import REFINE_OPTIONS
from sam_refine_cli.report import SKIP_EXISTING, Report, answers

if TYPE_CHECKING:
    from sam_refine_client import RefineResult
    from sam_refine_client.files.run_manifest import InputRecords
    from sam_refine_client.inputs.coarse_maps import CoarseMaps
    from sam_refine_client.inputs.images import ImageFile


OUTPUTS: Final = ("labels", "coarse_labels", "regions")


class Layout(str, Enum):
    """How the results of a folder of images lie."""

    FOLDERS = "folders"
    FLAT = "flat"


class Format(str, Enum):
    """The client's `SaveFormat`."""

    LABELS = "labels"
    PALETTE = "palette"
    REGIONS = "regions"
    NPZ = "npz"
    BEFORE_AFTER = "before_after"
    COCO_RLE = "coco_rle"
    COCO_POLYGONS = "coco_polygons"


@with_options(options=REFINE_OPTIONS, connection=CONNECTION)
def refine(
    image: Annotated[
        Path,
        typer.Argument(metavar="IMAGE", help="JPEG or PNG, or a folder of them.", exists=True),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Where the results go: labels.png, palette.png, regions.json, result.npz and "
            "before_after.png; for a folder of images in DIR/street/.",
            file_okay=False,
            rich_help_panel="Output",
        ),
    ],
    logits: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Class scores (C, h, w), as .npy, .npz, .pt or .safetensors; for a folder of "
            "images the folder of their scores, where street.jpg has street.npy, or a pattern such "
            "as 'scores/{stem}_scores.npy' ({folder}/{stem} is {name}).",
            rich_help_panel="Input",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Coarse maps (H, W) where they are not the argmax of the scores, or where there "
            "are none: PNG in grey, with a palette or in colours, .npy, or COCO's .json. A file, "
            "or a folder as with --logits.",
            rich_help_panel="Input",
        ),
    ] = None,
    palette: PaletteOption = None,
    activation: ActivationOption = None,
    embedding: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="What `sam-refine embed` wrote for the image, which then is not sent: street.npz "
            "or a folder of such.",
            rich_help_panel="Input",
        ),
    ] = None,
    recursive: RecursiveOption = False,
    cut_suffix: CutSuffixOption = "",
    dataset: DatasetOption = None,
    image_id: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Your own name of the image: a later request of the same name takes the "
            "embedding that the server keeps, and its pixels are not looked at.",
            rich_help_panel="Input",
        ),
    ] = None,
    format_: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Write this, and nothing else unless given again: labels, palette, regions, npz, "
            "before_after (which takes longest), coco_rle or "
            "coco_polygons (extra coco).",
            show_default="all but COCO",
            rich_help_panel="Output",
        ),
    ] = None,
    layout: Annotated[
        Layout,
        typer.Option(
            help="For a folder of images: a folder for each, or flat, as training wants it: the "
            "labels of street.jpg in DIR/street.png, and nothing else unless --format names it.",
            rich_help_panel="Output",
        ),
    ] = Layout.FOLDERS,
    class_names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of classes 0, 1, ..., a line each, or a JSON list, or by id, for "
            "the picture's legend, regions.json and COCO.",
            exists=True,
            dir_okay=False,
            rich_help_panel="Output",
        ),
    ] = None,
    coco: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For a folder of images: one COCO file of all, with the mask of each class; each "
            "image's own coco_rle.json is written, too (extra coco).",
            dir_okay=False,
            rich_help_panel="Output",
        ),
    ] = None,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Leave images alone whose results are there, made of the files as they are: go "
            "on where a run was stopped, with the same options.",
            rich_help_panel="Output",
        ),
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one line of JSON for each image on stdout, nothing else.",
            rich_help_panel="Output",
        ),
    ] = False,
    concurrency: ConcurrencyOption = None,
    *,
    options: RefineOptions,
    connection: Connection,
) -> None:
    """Refine the coarse map of an image, or those of a folder of images.

    One image, and its class scores as a network gives them, at any
    resolution up to the image's:

        sam-refine refine photo.jpg --logits photo.npy --out refined/

    A folder: scores/street.npy goes with images/street.jpg. An image that
    fails is named on stderr and the others go on. Where the server is gone,
    or lets nobody in, all ends; the same command goes on later:

        sam-refine refine images/ --logits scores/ --out refined/ \\
            --skip-existing

    Label maps without scores, here in the colours of Cityscapes:

        sam-refine refine images/ --labels maps/ --out refined/ \\
            --palette cityscapes

    A data set that lies as Cityscapes does, its results like its gtFine:

        sam-refine refine cityscapes/ --dataset cityscapes \\
            --logits 'scores/{name}.npy' --out pseudo/

    Raw output of a network, more regions refined than by default:

        sam-refine refine photo.jpg --logits raw.npy --out refined/ \\
            --activation softmax --iou-threshold 0.7

    Masks and outlines for annotation tools, and nothing else:

        sam-refine refine images/ --logits scores/ --out refined/ \\
            --format coco_rle --format coco_polygons --class-names names.txt

    Ends with 0 where all went well, 1 where something failed, 2 for wrong
    usage.
    """
    with usage_errors():
        check_folders(image, logits=logits, labels=labels, embedding=embedding)
        check_has_map(logits, labels, palette)
        if image.is_dir() and image_id is not None:
            raise InvalidRequestError("--image-id is the name of one image, not of a folder's")
        if coco is not None and not image.is_dir():
            raise InvalidRequestError("--coco is for a folder; for one image --format coco_rle")
        source = images_of(image, recursive, cut_suffix, dataset)
        if dataset is not None and out.resolve() == image.resolve():
            raise InvalidRequestError(
                "--out must be another folder than the data set, whose label maps it would replace"
            )
        if source.listed and out.resolve().is_relative_to(image.resolve()):
            raise InvalidRequestError(
                "--out must be another folder than the data set, whose list it would go into"
            )
    need_extra("client", "tritonclient", "grpc", "PIL")
    from sam_refine_client.files.saving import save_merged_coco
    from sam_refine_client.inputs.coarse_maps import CoarseMaps
    from sam_refine_client.inputs.huggingface import write_lists
    from sam_refine_client.inputs.images import find_images

    coarse_maps = CoarseMaps(
        logits,
        labels,
        embedding,
        None if activation is None else activation.value,
        image_id,
        None if palette is None else read_palette_option(palette),
    )
    if dataset is not None:
        layout = Layout.FLAT
    if not format_ and (layout is Layout.FLAT or coco is not None):
        format_ = [Format.LABELS]
    if coco is not None:
        format_ = list(dict.fromkeys([*(format_ or ()), Format.COCO_RLE]))
    settings = {
        "sam-refine": version("sam-refine"),
        "options": options.to_parameters(),
        "activation": coarse_maps.activation,
        "palette": palette,
        "layout": layout.value if dataset is None else dataset.value,
        "formats": None if format_ is None else sorted(each.value for each in format_),
    }
    if {Format.COCO_RLE, Format.COCO_POLYGONS} & set(format_ or ()):
        need_extra("coco", "pycocotools", "shapely")
    with errors_in_one_line(InvalidRequestError, OSError):
        images = find_images(
            source.path,
            recursive=source.recursive,
            cut_suffix=source.cut_suffix,
            listed=source.listed,
        )
        warn_of_left_out(source)
        names = read_class_names(class_names)
        images = without_results(images, image, out)
        place = Place(out, layout, source.result_name)
        check_keeps_inputs(images, coarse_maps, place, format_, coco)
        run = FolderRun(out, settings, connection, goes_on=skip_existing, is_folder=image.is_dir())
        records = run.records
    files: dict[str, Any] = {
        "formats": format_,
        "class_names": names,
    }
    totals = Totals()
    with (
        connection.open() as client,
        Report(len(images), is_json=json, go_on=SKIP_EXISTING) as report,
    ):
        todo = []
        finished = set()
        for each in images:
            if skip_existing and has_results(each, coarse_maps, place, format_, records):
                report.skipped(each.path)
                finished.add(each)
            else:
                todo.append(each)
        request = {"options": options, "outputs": OUTPUTS, "timeout_s": connection.timeout_s}
        at_a_time = concurrency or (1 if connection.local else 4)

        def job(each: ImageFile) -> dict[str, Any]:
            if each.is_of_folder:
                records.read(each.name, coarse_maps.files(each))
            return {**coarse_maps.job(each), **request}

        ask = partial(client.refine_many, concurrency=at_a_time)
        for each, result in answers(ask, todo, job, report):
            try:
                run.begin(each, report)
                directory, stem = place.of(each)
                name = f"{each.folder}/{each.path.name}" if each.folder else each.path.name
                paths = result.save(directory, stem=stem, image=each.path, image_name=name, **files)
                if each.is_of_folder:
                    records.done(each.name)
            except (ValueError, OSError) as error:
                report.failed(each.path, error)
                continue
            totals.add(result)
            finished.add(each)
            report.warned(each.path, result.warnings)
            report.done(each.path, paths, facts_of(result))
            if len(images) == 1 and not json:
                print_result(result)
                for path in paths:
                    stdout.print(f"{path}")
        if source.listed:
            with errors_in_one_line(InvalidRequestError, OSError):
                write_lists(source.path, out, {each.path for each in finished})
        if coco is not None:
            with errors_in_one_line(InvalidRequestError, OSError):
                save_merged_coco(
                    coco_parts([each for each in images if each in finished], place), coco
                )
        report.finish(out, totals.facts())


@dataclass(frozen=True)
class Place:
    """Where results go."""

    out: Path
    layout: Layout
    name: str
    """Of a flat result, with {name} and {label} for the image's."""

    def of(self, image: ImageFile) -> tuple[Path, str | None]:
        """The directory of an image's results, and what their names begin with."""
        if not image.is_of_folder:
            return self.out, None
        if self.layout is Layout.FLAT:
            return self.out, self.name.format(name=image.name, label=image.label)
        return self.out / image.name, None


def without_results(images: list[ImageFile], searched: Path, out: Path) -> list[ImageFile]:
    """The images of a folder that do not lie in the one of results within it."""
    searched, out = searched.resolve(), out.resolve()
    if out == searched or not out.is_relative_to(searched):
        return images
    folder = out.relative_to(searched).as_posix()
    return [each for each in images if not f"{each.folder}/".startswith(f"{folder}/")]


def check_keeps_inputs(
    images: list[ImageFile],
    coarse_maps: CoarseMaps,
    place: Place,
    formats: list[Format] | None,
    coco: Path | None,
) -> None:
    """Raise `InvalidRequestError` where a result would replace one of the files it is made of."""
    from sam_refine_client.files.saving import SaveFormat, file_of

    written = [SaveFormat(each.value) for each in formats or ()] or list(SaveFormat)
    paths = [] if coco is None else [coco]
    for each in images:
        directory, stem = place.of(each)
        paths += [file_of(directory, each_format, stem) for each_format in written]
    there = {_identity(path): path for path in paths if path.exists()}
    if not there:
        return
    for each in images:
        try:
            inputs = [each.path, *coarse_maps.files(each)]
        except (InvalidRequestError, OSError):  # said when its turn comes
            inputs = [each.path]
        for path in inputs:
            if path.exists() and _identity(path) in there:
                raise InvalidRequestError(
                    f"{there[_identity(path)]} would be replaced by a result, but is an input: "
                    "give another folder for the results"
                )


def _identity(path: Path) -> tuple[int, int]:
    """The same of a file by whatever path."""
    status = path.stat()
    return status.st_dev, status.st_ino


def has_results(
    image: ImageFile,
    coarse_maps: CoarseMaps,
    place: Place,
    formats: list[Format] | None,
    records: InputRecords,
) -> bool:
    """Whether an earlier run wrote all files, of inputs that are as they were."""
    from sam_refine_client.files.saving import SaveFormat, file_of

    directory, stem = place.of(image)
    needed = formats or [Format.LABELS]  # of the usual ones labels.png comes last
    results = [file_of(directory, SaveFormat(each.value), stem) for each in needed]
    try:
        return records.is_up_to_date(image.name, results, coarse_maps.files(image))
    except (InvalidRequestError, OSError):  # said when its turn comes
        return False


def coco_parts(images: list[ImageFile], place: Place) -> list[Path]:
    """The COCO file of each image."""
    from sam_refine_client.files.saving import SaveFormat, file_of

    places = [place.of(each) for each in images]
    return [file_of(directory, SaveFormat.COCO_RLE, stem) for directory, stem in places]


def facts_of(result: RefineResult) -> dict[str, Any]:
    """What a program may want to know of a result without its files."""
    regions = result.regions or ()
    return {
        "regions": len(regions),
        "kept": sum(region.kept for region in regions),
        "changed_fraction": result.changed_fraction,
        "timings_ms": result.timings,
        "request_id": result.request_id,
        "warnings": list(result.warnings),
    }


@dataclass
class Totals:
    """Of all results."""

    images: int = 0
    regions: int = 0
    kept: int = 0
    changed: float = 0.0

    def add(self, result: RefineResult) -> None:
        self.images += 1
        self.regions += len(result.regions or ())
        self.kept += sum(region.kept for region in result.regions or ())
        self.changed += result.changed_fraction

    def facts(self) -> dict[str, str]:
        if not self.images:
            return {}
        return {
            "regions": str(self.regions),
            "kept": str(self.kept),
            "pixels changed": f"{self.changed / self.images:.1%}",
        }
