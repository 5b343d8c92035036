"""What a bulk run adds to the work of a server: shards read, parts committed."""
