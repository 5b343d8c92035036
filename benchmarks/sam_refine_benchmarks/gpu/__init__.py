"""What a GPU makes of the exported graphs: where each node would run, and whether answers agree."""
