"""runc, the reference OCI runtime."""

from __future__ import annotations

from podlite.bench.peers import Context
from podlite.bench.peers.oci import OCIRuntime, find_runtime


def find(argument: str, context: Context) -> OCIRuntime:
    return find_runtime("runc", argument, context)
