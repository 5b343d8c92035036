"""How calls reach the models: by gRPC (`grpc`), or within this process (`local`)."""
