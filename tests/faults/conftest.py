"""The fault suite's machines and its account.

Here a sample of the matrix runs, another one every day; all of it by hand:

    PODLITE_FAULTS_SUITE=full ./dev test tests/faults -q
    PODLITE_FAULTS_SEED=20261126 ./dev test tests/faults -q        the sample of a day
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from podlite.runtime.layout import Layout
from tests.support.agents import Machine


class Account:
    """What the suite has come to."""

    def __init__(self) -> None:
        self.cases = self.fired = self.passed = 0
        self.other: list[str] = []


ACCOUNT = Account()


@pytest.fixture
def account() -> Account:
    return ACCOUNT


@pytest.fixture
def fault_machine(layout: Layout, short_tmp: str) -> Iterator[Machine]:
    """Directories for agents that try again at once; whoever uses it leaves nothing behind, or has failed."""
    from msgspec import structs

    own = structs.replace(layout, state_dir=f"{short_tmp}/state")
    os.makedirs(own.state_dir)
    os.makedirs(layout.images_dir, exist_ok=True)
    os.symlink(layout.images_dir, own.images_dir)
    machine = Machine(own, network="builtin", impatient=True)
    try:
        yield machine
    finally:
        machine.clean_up()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ACCOUNT.cases or ACCOUNT.other:
        terminalreporter.write_line(
            f"faults: {ACCOUNT.cases} cases of step and kind, {ACCOUNT.fired} acted, {ACCOUNT.passed} put right, "
            "with nothing leaked and no exit lost"
        )
        for line in ACCOUNT.other:
            terminalreporter.write_line(f"faults: {line}")
