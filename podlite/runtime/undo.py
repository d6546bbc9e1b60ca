"""Taking back, in reverse, what a half-finished operation has made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType

import anyio

from podlite import log
from podlite.cri.errors import CRIError
from podlite.errors import PodliteError, explain

# For the whole clean-up. Every step in it has limits of its own that are shorter.
DEADLINE = 30.0


class Undo:
    """A stack of undo steps: pushed beside what they take back (before it, where a failure may leave something
    half made), run in reverse when the block fails or is cancelled, dropped by `commit`.

    A failure that is none of the seam's leaves the block as a CRIError that names the operation.
    The steps run shielded from cancellation and with a deadline. One that fails does not stop the others: it is
    logged, and `failed` says so, for then a record has to stay.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._steps: list[tuple[str, Callable[[], Awaitable[object]]]] = []
        self.failed: list[str] = []

    def push(self, description: str, step: Callable[[], Awaitable[object]]) -> None:
        self._steps.append((description, step))

    def commit(self) -> None:
        """The operation has succeeded; nothing that can fail may come after this."""
        self._steps.clear()

    async def __aenter__(self) -> Undo:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            return
        with anyio.CancelScope(shield=True), anyio.move_on_after(DEADLINE) as deadline:
            while self._steps:
                description, step = self._steps.pop()
                try:
                    await step()
                except Exception as failure:
                    self._report(description, explain(failure))
        if deadline.cancelled_caught:
            self._report(self._what, f"the clean-up took longer than {DEADLINE:.0f} seconds")
        if isinstance(error, (OSError, PodliteError)) and not isinstance(error, CRIError):
            # A full disk, no more descriptors: the seam speaks of failures in its own terms only.
            raise CRIError(f"{self._what} did not work: {explain(error)}") from error

    def _report(self, description: str, why: str) -> None:
        self.failed.append(description)
        log.error("could not be taken back", operation=self._what, step=description, why=why)
