"""The seam between what is measured and how: a workload makes one thing and takes it back."""

from __future__ import annotations

from typing import Any, Protocol

from podlite.errors import PodliteError


class PeerMissingError(PodliteError):
    """A peer, or what it needs, is not on this machine: it is named and skipped."""


class OperationFailedError(PodliteError):
    """An operation did not do what it should have done."""


class Workload(Protocol):
    """One scenario of one implementation. Used by many tasks at once; what it raises is a failed operation.

    A `create` that raises has left nothing behind. `teardown` is called once for each handle, shielded from
    cancellation.
    """

    async def create(self) -> Any:
        """Makes one; returns what `teardown` needs."""
        ...

    async def teardown(self, handle: Any) -> None:
        """Takes it back."""
        ...
