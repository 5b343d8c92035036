"""`python -m sam_refine_cli`: the command where its launcher cannot be run."""

from sam_refine_cli import main

main()
