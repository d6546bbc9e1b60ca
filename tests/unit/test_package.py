"""What the installed package promises: types, a command, fixtures that pytest finds, a licence."""

from __future__ import annotations

from importlib.metadata import distribution
from importlib.resources import files

import pytest

from podlite.version import __version__


def test_it_is_typed() -> None:
    assert files("podlite").joinpath("py.typed").is_file()


def test_metadata() -> None:
    found = distribution("podlite")
    assert found.version == __version__
    assert found.metadata["License-Expression"] == "Apache-2.0"
    assert found.metadata["Requires-Python"] == ">=3.11"


@pytest.mark.parametrize(("group", "target"), [("console_scripts", "main"), ("pytest11", "podlite_netns")])
def test_entry_points_lead_somewhere(group: str, target: str) -> None:
    [entry] = [each for each in distribution("podlite").entry_points if each.group == group]
    assert entry.name == "podlite"
    loaded = entry.load()
    assert callable(loaded) if group == "console_scripts" else hasattr(loaded, target)
