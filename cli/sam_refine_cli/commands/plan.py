"""`sam-refine plan`: how many machines a data set needs, for how long, at what cost."""

from __future__ import annotations

import json as json_format
from typing import Annotated

import typer

from sam_refine.contract import InvalidRequestError
from sam_refine_cli.console import need_extra, print_error, print_facts


def plan(
    images: Annotated[int, typer.Argument(metavar="IMAGES", help="How many.", min=1)],
    rate: Annotated[
        float,
        typer.Option(
            metavar="N", help="Images/s of one machine, measured with yours: what `bulk` prints."
        ),
    ],
    deadline_h: Annotated[float, typer.Option(metavar="HOURS", help="When all must be done.")],
    price_per_h: Annotated[
        float, typer.Option(metavar="MONEY", help="Of one machine for an hour.")
    ] = 0.0,
    preemptions_per_h: Annotated[
        float, typer.Option(metavar="N", help="How often an hour a machine is taken away.")
    ] = 0.0,
    start_s: Annotated[
        float, typer.Option(metavar="SECONDS", help="Until a new machine works.")
    ] = 120.0,
    busy: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="The share of --rate that a run reaches; 1 where `bulk` itself measured it.",
        ),
    ] = 1.0,
    part: Annotated[int, typer.Option(metavar="N", help="As for `bulk`.", min=1)] = 256,
    images_per_shard: Annotated[int, typer.Option(metavar="N", min=1)] = 1000,
    bytes_per_image: Annotated[
        float, typer.Option(metavar="N", help="Image and scores, as they are read or sent.")
    ] = 2.8e6,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Say how many machines meet a deadline, for how long, and what it costs.

    A hundred million images in three days, on machines that refine 20 in a
    second, cost 2 an hour and are taken away every ten hours:

        sam-refine plan 100_000_000 --rate 20 --deadline-h 72 \\
            --price-per-h 2 --preemptions-per-h 0.1

    The formula is in docs/scale.md. Ends with 1 where no number of machines
    meets the deadline.
    """
    need_extra("bulk", "tritonclient", "grpc", "PIL")
    from sam_refine_bulk import Workload
    from sam_refine_bulk import plan as plan_of

    try:
        found = plan_of(
            Workload(
                images, deadline_h, rate, price_per_h, preemptions_per_h, start_s, busy, part,
                images_per_shard, bytes_per_image,
            )
        )  # fmt: skip
    except InvalidRequestError as error:
        print_error(str(error))
        raise typer.Exit(1) from error
    if json:
        print(json_format.dumps(vars(found)))
        return
    print_facts(
        {
            "machines": f"{found.machines:,}",
            "hours": f"{found.hours:.2f}",
            "machine hours": f"{found.machines * found.hours:,.0f}",
            "cost": f"{found.cost:,.0f}",
            "useful time": f"{found.useful:.1%}",
            "network": f"{found.network_bytes_per_s / 1e9:.2f} GB/s",
            "shards": f"{found.shards:,}",
        },
        are_numbers=True,
    )
    if found.shards_per_machine < 10:
        print_error(
            f"{found.shards_per_machine:.1f} shards for each machine: with fewer than 10 some end "
            "long before the others; make smaller shards"
        )
