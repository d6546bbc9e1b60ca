"""Grace periods, and the order in which containers end.

Sources: "Termination of Pods" and "Sidecar Containers" in the Kubernetes documentation; KEP-753; KEP-2238 for probes'
own grace periods; pkg/kubelet/kuberuntime/kuberuntime_termination_order_test.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import Any

import pytest

from podlite.kubelet.pod_kill import grace_period
from podlite.kubelet.termination_order import TerminationOrder, prerequisites
from tests.support.clock import FakeClock, settle
from tests.support.pods import a_pod, deleted, exec_probe, init, sidecar, with_fields
from tests.support.tables import table

FIVE = exec_probe(termination_grace_period_seconds=5)
LIVENESS, STARTUP = with_fields("c1", liveness_probe=FIVE), with_fields("c1", startup_probe=FIVE)

GRACE_PERIODS = [
    ("the pod's default", [], {}, "", 30),
    ("the pod's own", [], {"termination_grace_period_seconds": 7}, "", 7),
    ("zero", [], {"termination_grace_period_seconds": 0}, "", 0),
    ("of the deletion", [deleted(3)], {}, "", 3),
    ("a probe's, for liveness", [LIVENESS], {}, "LivenessProbe", 5),
    ("a probe's, for startup", [STARTUP], {}, "StartupProbe", 5),
    ("a liveness probe's has no part in others", [LIVENESS], {}, "StartupProbe", 30),
    ("nor in what has no reason", [LIVENESS], {}, "", 30),
    ("a deletion goes before probes", [LIVENESS, deleted(20)], {}, "LivenessProbe", 20),
]


@pytest.mark.parametrize(("mutators", "spec", "reason", "expected"), table(GRACE_PERIODS))
def test_grace_period(mutators: Any, spec: Any, reason: str, expected: int) -> None:
    pod = a_pod(*mutators, **spec)
    assert grace_period(pod, pod.spec.containers[0], reason) == expected


def test_who_waits_for_whom() -> None:
    pod = a_pod(init("i1"), sidecar("s1"), init("i2"), sidecar("s2", "s3"), containers=2)
    assert prerequisites(pod) == {
        "s3": ("c1", "c2"),
        "s2": ("c1", "c2", "s3"),
        "s1": ("c1", "c2", "s2"),
    }
    assert prerequisites(a_pod(init("i1"), containers=2)) == {}


@pytest.mark.anyio
async def test_turns() -> None:
    import anyio

    clock = FakeClock()
    order = TerminationOrder(a_pod(sidecar("s1", "s2")), ["c1", "s1", "s2"], clock)
    turns: dict[str, float] = {}

    async def wait(name: str) -> None:
        turns[name] = await order.wait_for_turn(name, 10)

    async with anyio.create_task_group() as tasks:
        for name in ("c1", "s1", "s2"):
            tasks.start_soon(wait, name)
        await settle()
        assert turns == {"c1": 0}
        await clock.advance(2)
        order.ended("c1")
        await settle()
        assert turns == {"c1": 0, "s2": 2}
        # The time is over before its turn has come.
        await clock.advance(8)
        assert turns == {"c1": 0, "s2": 2, "s1": 10}


@pytest.mark.anyio
async def test_who_does_not_run_is_not_waited_for() -> None:
    order = TerminationOrder(a_pod(sidecar("s1", "s2")), ["s1"], FakeClock())
    assert await order.wait_for_turn("s1", 10) == 0
