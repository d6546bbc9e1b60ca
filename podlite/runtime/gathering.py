"""When the runtime's threads are gathered on one CPU: while several pods are made at a time (podlite.linux.affinity).

One pod alone is done sooner where the event loop's thread can make way for the shim's start and the network's.
"""

from __future__ import annotations

import asyncio

from podlite.linux import affinity

# Without a crowd for so long they are scattered.
_IDLE_SECONDS = 0.5
# And after so long in any case, for the kernel to choose another CPU if this one is busy.
_LONGEST_SECONDS = 10.0


class Gathering:
    """A context for each call that makes or unmakes something; several at a time are a crowd. Cheap enough for all.

    For the event loop's thread. If not `wanted` nothing is gathered.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._calls = 0
        self._used = False
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        if not self._wanted:
            return
        self._calls += 1
        if self._calls == 1:
            return
        self._used = True
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._since = loop.time()
            affinity.gather()
            self._timer = loop.call_later(_IDLE_SECONDS, self._look, loop)

    def __exit__(self, *error: object) -> None:
        if self._wanted:
            self._calls -= 1

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if (self._used or self._calls > 1) and loop.time() - self._since < _LONGEST_SECONDS:
            self._used = False
            self._timer = loop.call_later(_IDLE_SECONDS, self._look, loop)
        else:
            self.end()

    def end(self) -> None:
        """Scatters them; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            affinity.scatter()
