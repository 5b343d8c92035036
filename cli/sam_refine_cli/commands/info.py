"""`sam-refine info`: what servers are and what they take."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sam_refine_cli.console import need_extra, print_error, print_facts, printable, stderr, stdout
from sam_refine_cli.options.connection import CONNECTION, Connection
from sam_refine_cli.options.groups import with_options

if TYPE_CHECKING:
    from sam_refine.contract import Limits
    from sam_refine_client import ServerInfo


@with_options(connection=CONNECTION)
def info(
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON for each server on stdout.")
    ] = False,
    *,
    connection: Connection,
) -> None:
    """Say what a server is: versions, models, limits of requests.

    Each address is asked by itself:

        sam-refine info

        sam-refine info --url 10.0.0.1:8001 --url 10.0.0.2:8001 --json

    Where its models have other tensors than this client, the differences
    are named: one of the two must be brought to the version of the other.

    Ends with 0 where every server answered, 1 where one did not, 2 for
    wrong usage.
    """
    need_extra("client", "tritonclient", "grpc", "PIL")
    from sam_refine_client import RefineError

    client_version = own_version()
    failed = False
    for each in connection.each():
        try:
            with each.open() as client, stderr.status(f"asking {each.name}"):
                found = client.info(timeout_s=each.timeout_s)
        except RefineError as error:
            print_error(f"{each.name}: {error}")
            failed = True
            continue
        if json:
            facts = {"server": each.name, "client_version": client_version, **asdict(found)}
            print(json_format.dumps(facts), flush=True)
        else:
            print_info(each.name, client_version, found)
    if failed:
        raise typer.Exit(1)


def own_version() -> str:
    """The version of this installation."""
    try:
        return version("sam-refine")
    except PackageNotFoundError:
        return "of a source tree that is not installed"


def print_info(name: str, client_version: str, info: ServerInfo) -> None:
    """A few tables."""
    print_facts(
        {
            "server": name,
            "runs": f"{printable(info.name)} {printable(info.version)}",
            "this client": f"sam-refine {client_version}",
        }
    )
    stdout.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("model", "state", "version", "run by", "device"):
        table.add_column(heading)
    for heading in ("instances", "batch"):
        table.add_column(heading, justify="right")
    for model in info.models:
        cells = (model.backend, model.device, model.instances, model.max_batch_size or None)
        table.add_row(
            model.name,
            model.state.value,
            ", ".join(model.versions),
            *("" if cell is None else printable(str(cell)) for cell in cells),
        )
    stdout.print_table(table)
    if info.limits is not None and info.array_library is not None:
        stdout.print()
        facts = {**limits_in_words(info.limits), "computes with": info.array_library.value}
        if info.networks_sha256 is not None:
            facts["networks"] = printable(info.networks_sha256)
        print_facts(facts)
    for model in info.models:
        if model.reason:
            reason = printable(" ".join(model.reason.split()))
            stdout.print(f"{model.name} is {model.state.value}: {reason}")
    for difference in info.differences:
        stdout.print(f"differs: {printable(difference)}")


def limits_in_words(limits: Limits) -> dict[str, str]:
    """What requests may have at most."""
    return {
        "image": f"{limits.max_image_pixels:,} pixels, {limits.max_image_side:,} a side",
        "classes": f"{limits.max_classes:,}",
        "scores on the grid": f"{limits.max_grid_scores:,}",
        "regions": f"{limits.max_regions:,}",
        "embeddings kept": f"{limits.max_cached_embeddings:,}",
        "callers' names of images": "believed" if limits.allow_image_ids else "not believed",
    }
