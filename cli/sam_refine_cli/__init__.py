"""The command `sam-refine`: refine, embed, evaluate, tune, health, info, and what serves them."""

import os
import sys


def main() -> None:
    """Run the command line; errors are one line on stderr and exit code 1, wrong usage is 2."""
    # onnxruntime >= 1.29 reports to Microsoft unless told not to before its import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Help in a pipe: typer would cut the names of options down to COLUMNS.
    if not sys.stdout.isatty():
        os.environ.setdefault("TERMINAL_WIDTH", "100")
    try:
        from sam_refine_cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit('sam-refine: the command line needs: pip install "sam-refine[cli]"')
    except KeyboardInterrupt:  # before there is a command
        print("sam-refine: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(run())
