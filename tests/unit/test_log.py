"""podlite's own log."""

from __future__ import annotations

import io
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
