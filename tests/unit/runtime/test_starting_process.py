"""What a shim hears of a process between fork and execve."""

from __future__ import annotations

import socket

from podlite.runtime import channel  # noqa: F401 - sets the codec
from podlite.runtime.shim import protocol
from podlite.runtime.shim.fork import Start
from podlite.runtime.shim.loop import Loop


def test_the_failure_of_one_that_did_not_read_what_it_was_sent() -> None:
    """unix(7): ECONNRESET, which comes before what was sent earlier."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    loop, start = Loop(), Start(ours)
    loop.watch(ours.fileno(), lambda events: None)
    assert not start.listen(loop)
    protocol.send(ours, {"m": "rest"})
    failure = {"m": "failed", "step": "container.fork", "code": 125, "error": "Interrupted system call"}
    protocol.send(theirs, failure)
    theirs.close()
    assert start.listen(loop)
    assert start.failure == failure
