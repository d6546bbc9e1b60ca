"""The shim's protocol and the records carry a version, and version N adopts what N-1 left (DESIGN 4)."""

from __future__ import annotations

import os

import pytest
from test_adopt import dead, ended, successor, victim

from podlite.runtime import adopt, journal
from podlite.runtime.layout import Layout
from podlite.runtime.shim import protocol

pytestmark = [pytest.mark.root, pytest.mark.anyio]


def be_newer_by(versions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process is to records and shims that are of the version that they have now."""
    now = protocol.VERSION + versions
    monkeypatch.setattr(adopt, "ADOPTABLE", (now, now - 1))
    monkeypatch.setattr(journal, "VERSION", journal.VERSION + versions)


async def test_the_next_version_adopts(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    with victim(layout, "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done") as (process, said):
        sandbox, container, *_, pid = said
        process.kill()
        process.wait()
    be_newer_by(1, monkeypatch)
    async with successor(layout) as runtime:
        assert list(runtime.store.sandboxes) == [sandbox]
        assert runtime.store.containers[container].pid == pid
        # And it is at home with it: exec, stop, and an exit that is told.
        assert (await runtime.exec_sync(container, ["/bin/true"])).exit_code == 0
        await runtime.stop_container(container, 20)
        assert (await ended(runtime, container)).exit_code == 3


async def test_the_one_after_that_does_not(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    with victim(layout) as (process, (_, _, *_, pid)):
        process.kill()
        process.wait()
    with monkeypatch.context() as newer:
        be_newer_by(2, newer)
        async with successor(layout) as runtime:
            assert list(runtime.store.sandboxes) == []
        os.kill(pid, 0)  # nobody's right to end it
        assert len(os.listdir(layout.pods_dir)) == 1
    # Its own version finds it as it was.
    async with successor(layout) as runtime:
        assert len(runtime.store.sandboxes) == 1
    await dead(pid)
