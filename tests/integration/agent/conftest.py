from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from podlite.runtime.layout import Layout
from tests.support.agents import Machine, a_machine


@pytest.fixture
def machine(layout: Layout, short_tmp: str) -> Iterator[Machine]:
    """Directories for agents, empty: no agent runs yet. Whatever is left in the end is removed."""
    from msgspec import structs

    # What was handed over is in the state directory: it must not be another test's.
    own = structs.replace(layout, state_dir=f"{short_tmp}/state")
    os.makedirs(own.state_dir)
    os.makedirs(layout.images_dir, exist_ok=True)
    os.symlink(layout.images_dir, own.images_dir)  # the embedded image is made once for all
    with a_machine(own) as made:
        yield made
