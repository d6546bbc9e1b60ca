from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.bench import plan
from podlite.bench.plan import OPEN_LOOP_WORKERS, PODLITE, Case, PeerPart, Settings
from podlite.errors import UsageError


def settings(*scenarios: str, **values: object) -> Settings:
    return Settings(scenarios=scenarios, **values)  # type: ignore[arg-type]


def test_a_sweep_is_every_scenario_at_every_concurrency() -> None:
    found = plan.cases(settings("floor", "netns", concurrency=(1, 4)))
    assert [(case.scenario, case.concurrency) for case in found] == [
        ("floor", 1),
        ("floor", 4),
        ("netns", 1),
        ("netns", 4),
    ]
    assert {case.mode for case in found} == {"closed"}


def test_a_peers_variant_stands_beside_podlites_own() -> None:
    # "Compare like with like": beside each network against the other, the same network on both.
    peer = PeerPart(impl="cri", work=(("sandbox", ""), ("sandbox", "hostNetwork")))
    found = plan.cases(settings("sandbox"), [peer])
    assert [(case.name, case.impl) for case in found] == [
        ("sandbox", PODLITE),
        ("sandbox", "cri"),
        ("sandbox (hostNetwork)", PODLITE),
        ("sandbox (hostNetwork)", "cri"),
    ]


def test_a_peer_has_no_live_sandboxes_of_podlites_and_is_measured_once() -> None:
    peer = PeerPart(impl="runc", work=(("pod", ""),))
    found = plan.cases(settings("pod", live=(0, 100)), [peer])
    assert [(case.impl, case.live) for case in found] == [(PODLITE, 0), ("runc", 0), (PODLITE, 100)]


def test_the_open_loop_has_a_rate_and_workers() -> None:
    (case,) = plan.cases(settings("sandbox", rate=100.0, pool=20))
    assert (case.mode, case.rate, case.concurrency, case.pool) == ("open", 100.0, OPEN_LOOP_WORKERS, 20)


def test_only_what_takes_sandboxes_has_a_pool() -> None:
    found = plan.cases(settings("floor", "sandbox", "exec", pool=5))
    assert [case.pool for case in found] == [0, 5, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        settings("pods"),
        settings("pod", count=0),
        settings("pod", concurrency=(1, 0)),
        settings("pod", live=(-1,)),
        settings("pod", rounds=0),
        settings("pod", rate=-1.0),
        settings("pod", rest=-1.0),
        settings("pod", rest=float("inf")),
        settings("pod", duration=float("nan")),
        settings("floor", pool=3),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong: Settings) -> None:
    with pytest.raises(UsageError):
        plan.check(wrong)


def test_every_other_round_runs_backwards() -> None:
    cases = [Case(scenario=name) for name in ("floor", "netns", "sandbox")]
    assert plan.in_round(cases, 0) == cases
    assert plan.in_round(cases, 1) == cases[::-1]
    assert plan.in_round(cases, 2) == cases


@given(st.integers(1, 5000), st.integers(1, 50))
def test_the_rounds_share_all_operations(total: int, rounds: int) -> None:
    shares = [plan.share(total, rounds, round) for round in range(rounds)]
    assert sum(shares) == max(total, rounds)
    assert max(shares) - min(shares) <= 1


def test_arrivals_are_on_a_fixed_schedule() -> None:
    assert plan.arrivals(4.0, 5, 0) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert len(plan.arrivals(100.0, 5, 2.0)) == 200
