"""The subcommands, one module each; what a subcommand needs is imported when it runs."""

from __future__ import annotations

import typer

from sam_refine_cli import demo, export, refine, serve, ui

app = typer.Typer(
    name="sam-refine",
    help="Segment Anything refines coarse label maps, served on NVIDIA Triton.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve.serve)
app.command()(refine.refine)
app.command()(export.export)
app.command()(demo.demo)
app.command()(ui.ui)
