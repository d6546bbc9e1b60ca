"""Every named step of create and teardown × every kind of fault: podlite.steps.STEPS is what enumerates them."""

from __future__ import annotations

import os
import random
import time

import pytest

from podlite.steps import STEPS
from tests.faults.conftest import Account
from tests.faults.fault_case import ELSEWHERE, KINDS, FaultCase
from tests.support.agents import Machine

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

MATRIX = [(step, kind) for step in STEPS if step not in ELSEWHERE for kind in KINDS]
SAMPLE = int(os.environ.get("PODLITE_FAULTS_COUNT", "12"))


def chosen() -> list[tuple[str, str]]:
    """The whole matrix, or a sample: as many kinds as there are, each of another step, another one every day."""
    if os.environ.get("PODLITE_FAULTS_SUITE") == "full":
        return MATRIX
    seed = os.environ.get("PODLITE_FAULTS_SEED") or time.strftime("%Y%m%d", time.gmtime())
    return sorted(random.Random(seed).sample(MATRIX, min(SAMPLE, len(MATRIX))))


def test_every_step_is_covered() -> None:
    assert {step for step, _ in MATRIX} | set(ELSEWHERE) == set(STEPS)


@pytest.mark.parametrize(("step", "kind"), chosen())
def test_fault(fault_machine: Machine, account: Account, step: str, kind: str) -> None:
    account.cases += 1
    case = FaultCase(fault_machine, step, kind)
    try:
        case.run()
    finally:
        if fault_machine.log.exists():
            print(fault_machine.log.read_text()[-15_000:])
    # A fault that is not taken tests nothing.
    assert case.fired, f"the pods did not come to {step}"
    account.fired += 1
    account.passed += 1
