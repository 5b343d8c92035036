"""How calls reach the models: by gRPC, or in this process."""
