"""Who works on which shard: processes of this machine, ranks of a cluster, tasks of Ray."""
