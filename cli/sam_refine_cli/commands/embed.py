"""`sam-refine embed`: SAM's embeddings of images, to refine many maps of each."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam_refine.contract import InvalidRequestError
from sam_refine_cli.console import errors_in_one_line, need_extra, stdout
from sam_refine_cli.folder_run import FolderRun
from sam_refine_cli.options.connection import CONNECTION, Connection
from sam_refine_cli.options.folders import (
    ConcurrencyOption,
    CutSuffixOption,
    Images,
    RecursiveOption,
    warn_of_left_out,
)
from sam_refine_cli.options.groups import with_options
from sam_refine_cli.report import SKIP_EXISTING, Report, answers

if TYPE_CHECKING:
    from sam_refine_client.inputs.images import ImageFile


@with_options(connection=CONNECTION)
def embed(
    image: Annotated[
        Path,
        typer.Argument(metavar="IMAGE", help="JPEG or PNG, or a folder of them.", exists=True),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Where the embeddings go: for street.jpg DIR/street.npz, 4 MiB each.",
            file_okay=False,
        ),
    ],
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Leave images alone that have one, made of the image as it is: go on where a run "
            "was stopped.",
        ),
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one line of JSON for each image on stdout, nothing else."
        ),
    ] = False,
    recursive: RecursiveOption = False,
    cut_suffix: CutSuffixOption = "",
    concurrency: ConcurrencyOption = None,
    *,
    connection: Connection,
) -> None:
    """Write SAM's embedding of an image, or of each image of a folder.

    It refines any number of maps of the image, which is not encoded again
    nor sent:

        sam-refine embed photo.jpg --out embeddings/

        sam-refine refine photo.jpg --logits photo.npy \\
            --embedding embeddings/ --out refined/

    The server keeps embeddings of the latest images by itself; write them
    where there are more images than it keeps (`sam-refine info` says how
    many), or for another day.

    Ends with 0 where all went well, 1 where something failed, 2 for wrong
    usage.
    """
    need_extra("client", "tritonclient", "grpc", "PIL")
    from sam_refine_client.inputs.images import find_images

    with errors_in_one_line(InvalidRequestError, OSError):
        images = find_images(image, recursive=recursive, cut_suffix=cut_suffix)
        warn_of_left_out(Images(image, recursive, cut_suffix))
        check_keeps_other_files([out / f"{each.name}.npz" for each in images])
        settings = {"sam-refine": version("sam-refine"), "formats": ["embedding"]}
        run = FolderRun(out, settings, connection, goes_on=skip_existing, is_folder=image.is_dir())
        records = run.records
    with (
        connection.open() as client,
        Report(len(images), is_json=json, go_on=SKIP_EXISTING) as report,
    ):
        todo = []
        for each in images:
            path = out / f"{each.name}.npz"
            if skip_existing and records.is_up_to_date(each.name, [path], [each.path]):
                report.skipped(each.path)
            else:
                todo.append(each)
        at_a_time = concurrency or (1 if connection.local else 4)

        def job(each: ImageFile) -> dict[str, Any]:
            if each.is_of_folder:
                records.read(each.name, [each.path])
            return {"image": each.path, "timeout_s": connection.timeout_s}

        ask = partial(client.embed_many, concurrency=at_a_time)
        for each, embedding in answers(ask, todo, job, report):
            path = out / f"{each.name}.npz"
            try:
                run.begin(each, report)
                path.parent.mkdir(parents=True, exist_ok=True)
                embedding.save(path)
                if each.is_of_folder:
                    records.done(each.name)
            except (ValueError, OSError) as failure:
                report.failed(each.path, failure)
                continue
            report.warned(each.path, embedding.warnings)
            facts = {"size_hw": embedding.size_hw, "warnings": list(embedding.warnings)}
            report.done(each.path, [path], facts)
            if len(images) == 1 and not json:
                stdout.print(f"{path}")
        report.finish(out, {})


def check_keeps_other_files(paths: list[Path]) -> None:
    """Raise `InvalidRequestError` where one is there and is no embedding, such as scores."""
    from sam_refine_client.embedding import is_embedding_file

    for path in paths:
        if path.exists() and not is_embedding_file(path):
            raise InvalidRequestError(
                f"{path} would be replaced by an embedding, but is none: give another folder"
            )
