"""What docs/tensors.md does with grpcurl, for machines without it: the same arguments, in Python.

-plaintext -protoset FILE -max-msg-sz N -d @ ADDRESS SERVICE/METHOD < request.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-plaintext", action="store_true", required=True)
    parser.add_argument("-protoset", type=Path, required=True)
    parser.add_argument("-max-msg-sz", type=int, default=4 * 2**20)
    parser.add_argument("-d", choices=["@"], required=True)
    parser.add_argument("address")
    parser.add_argument("symbol")
    arguments = parser.parse_args()

    files = descriptor_pb2.FileDescriptorSet.FromString(arguments.protoset.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    service, name = arguments.symbol.split("/")
    method = pool.FindServiceByName(service).FindMethodByName(name)
    ask, answer = map(message_factory.GetMessageClass, (method.input_type, method.output_type))

    request = json_format.Parse(sys.stdin.read(), ask(), descriptor_pool=pool)
    limit = [("grpc.max_receive_message_length", arguments.max_msg_sz)]
    with grpc.insecure_channel(arguments.address, limit) as channel:
        call = channel.unary_unary(f"/{service}/{name}", ask.SerializeToString, answer.FromString)
        print(json_format.MessageToJson(call(request), preserving_proto_field_name=True))


if __name__ == "__main__":
    main()
