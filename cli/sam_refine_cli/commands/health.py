"""`sam-refine health`: whether servers do their work."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sam_refine_cli.console import print_error, print_facts, stderr
from sam_refine_cli.options.connection import CONNECTION, Connection
from sam_refine_cli.options.groups import with_options

if TYPE_CHECKING:
    from sam_refine_client import Health

DEFAULT_TIMEOUT_S = 30.0


@with_options(connection=CONNECTION)
def health(
    canary: Annotated[
        bool,
        typer.Option(
            "--canary/--no-canary",
            help="Send a small image and map through all models, or only ask.",
        ),
    ] = True,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON for each server on stdout.")
    ] = False,
    *,
    connection: Connection,
) -> None:
    """Say whether a server does its work, and what to do where it does not.

    It is asked once whether it is live and ready, then each of its models.
    Then the canary goes through all of them: a small image, which refines
    a small map. Each address is asked by itself.

        sam-refine health

        sam-refine health --url 10.0.0.1:8001 --url 10.0.0.2:8001 --json

    For a monitor that asks every few seconds:

        sam-refine health --no-canary --timeout-s 2

    Ends with 0 where every server is healthy, 1 where one is not, 2 for
    wrong usage.
    """
    is_healthy = True
    for each in connection.each():
        with each.open() as client, stderr.status(f"asking {each.name}"):
            found = client.health(canary=canary, timeout_s=each.timeout_s or DEFAULT_TIMEOUT_S)
        is_healthy = is_healthy and found.is_healthy
        if json:
            facts = {"server": each.name, "is_healthy": found.is_healthy, **asdict(found)}
            print(json_format.dumps(facts), flush=True)
        else:
            print_facts(facts_of(each.name, found))
            for problem in found.problems:
                print_error(f"{each.name}: {problem}")
    if not is_healthy:
        raise typer.Exit(1)


def facts_of(name: str, health: Health) -> dict[str, str]:
    """What was found, in words."""
    words = {True: "ready", False: "not ready"}
    facts = {"server": name, "live": "yes" if health.is_live else "no"}
    if health.is_live:
        facts["ready"] = "yes" if health.is_ready else "no"
    facts |= {model: words[is_ready] for model, is_ready in health.models.items()}
    if health.canary_ms is not None:
        facts["canary"] = f"{health.canary_ms:.0f} ms"
    facts["healthy"] = "yes" if health.is_healthy else "no"
    return facts
