"""Writes `wire/runtime_pb2.py` and its types from `wire/runtime.proto`: `python -m podlite.rpc.generate`.

Needs grpcio-tools, which the `lint` extra brings. A test compares what is in the tree with the .proto.
"""

from __future__ import annotations

import os
import sys

PROTO = "podlite/rpc/wire/runtime.proto"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def generate(directory: str) -> None:
    """Writes the modules to `directory`/podlite/rpc/wire, with the installed version of protoc. Raises SystemExit."""
    from grpc_tools import protoc

    status = protoc.main(["protoc", f"-I{ROOT}", f"--python_out={directory}", f"--pyi_out={directory}", PROTO])
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}")


def descriptor(directory: str) -> bytes:
    """The .proto as a serialized FileDescriptorSet, without source positions. Raises SystemExit."""
    from grpc_tools import protoc

    path = os.path.join(directory, "descriptor")
    status = protoc.main(["protoc", f"-I{ROOT}", f"--descriptor_set_out={path}", PROTO])
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}")
    with open(path, "rb") as file:
        return file.read()


if __name__ == "__main__":
    generate(sys.argv[1] if len(sys.argv) > 1 else ROOT)
