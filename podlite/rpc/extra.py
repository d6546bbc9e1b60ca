"""The libraries of the `cri` extra: gRPC and protobuf, without which podlite drives and serves no CRI."""

from __future__ import annotations

import importlib.util

from podlite.errors import UsageError


def require_grpc(what: str) -> None:
    """Raises UsageError where they are not installed."""
    if importlib.util.find_spec("grpc") is None or importlib.util.find_spec("google.protobuf") is None:
        raise UsageError(f"{what} needs gRPC, which is not installed", hint="pip install 'podlite[cri]'")
