"""Ctrl-C, SIGTERM and a terminal's hang-up, from the first moment of a run to its last.

asyncio would answer Ctrl-C by cancelling the main task, through every shield. So they are received here for as long
as there is anything to take back, and whoever is in charge decides what they mean.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import anyio

from podlite.cli.exit_status import HUNG_UP, INTERRUPTED, TERMINATED

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

STATUSES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED, signal.SIGHUP: HUNG_UP}


class Interrupts:
    """Receives the signals. Until `handle` is set, by whoever can end pods in good order, one cancels `scope`."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.handle: Callable[[signal.Signals], None] | None = None
        # The exit status that the signal stands for which cancelled the scope.
        self.status = 0

    async def listen(self, *, task_status: TaskStatus[None]) -> None:
        """For a task of its own, which is to be cancelled when all is over."""
        wanted = set(STATUSES)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup(1)
            wanted.remove(signal.SIGHUP)
        with anyio.open_signal_receiver(*wanted) as received:
            task_status.started()
            async for number in received:
                if self.handle is not None:
                    self.handle(number)
                else:
                    self.status = self.status or STATUSES[number]
                    self.scope.cancel()
