"""The libraries of the `cri` extra: gRPC and protobuf, without which podlite drives and serves no CRI."""

from __future__ import annotations

import importlib.util
import os

from podlite.errors import UsageError


def require_grpc(what: str) -> None:
    """Raises UsageError where they are not installed."""
    if importlib.util.find_spec("grpc") is None or importlib.util.find_spec("google.protobuf") is None:
        raise UsageError(f"{what} needs gRPC, which is not installed", hint="pip install 'podlite[cri]'")


def poll_directly() -> None:
    """Has gRPC read its connections on the thread that waits for calls. Before gRPC is imported; for servers.

    By default a readable connection goes by way of two threads of gRPC's event engine first: 0.08 of the 0.55 ms that
    a call takes which only looks something up (two cores, grpcio 1.85). A GRPC_EXPERIMENTS of the user's is obeyed.
    """
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
