"""podlite's own log."""

from __future__ import annotations

import contextlib
import io
import os
import sys

import pytest

from podlite import log


def test_it_follows_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest, for one, replaces sys.stderr for every test, and closes the file afterwards."""
    first, second = io.StringIO(), io.StringIO()
    for file in (first, second):
        monkeypatch.setattr(sys, "stderr", file)
        log.warning("something happened", pod="default/web")
        assert "something happened" in file.getvalue()
        assert "pod=default/web" in file.getvalue()
    first.close()
    log.warning("something else happened")
    assert "something else happened" in second.getvalue()


def test_what_cannot_be_written_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads it any more (`podlite run pod.yaml 2>&1 | head`), it is closed, or there is none."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", buffering=1) as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        log.warning("something happened")
        with contextlib.suppress(BrokenPipeError):
            broken.close()
    log.warning("something happened")
    monkeypatch.setattr(sys, "stderr", None)
    log.warning("something happened")
