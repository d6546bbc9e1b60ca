"""The transition table of pod workers: every pair of a state and an event."""

from __future__ import annotations

from itertools import product

import pytest

from podlite.kubelet.pod_record import effective_grace_period
from podlite.kubelet.worker_states import TRANSITIONS, WorkerEvent, WorkerState, transition

S, E = WorkerState, WorkerEvent

# As the module draws it.
EXPECTED = {
    (S.SYNC, E.TERMINATE): S.TERMINATING,
    (S.SYNC, E.COMPLETE): S.TERMINATING,
    (S.TERMINATING, E.TERMINATE): S.TERMINATING,
    (S.TERMINATING, E.STOPPED): S.TERMINATED,
    (S.TERMINATED, E.TERMINATE): S.TERMINATED,
    (S.TERMINATED, E.RELEASED): S.FINISHED,
    (S.FINISHED, E.TERMINATE): S.FINISHED,
    (S.FINISHED, E.REMOVE): S.REMOVING,
    (S.REMOVING, E.TERMINATE): S.REMOVING,
    (S.REMOVING, E.REMOVED): S.REMOVED,
    (S.REMOVED, E.TERMINATE): S.REMOVED,
}


@pytest.mark.parametrize(("state", "event"), list(product(S, E)), ids=str)
def test_every_pair(state: WorkerState, event: WorkerEvent) -> None:
    if (state, event) in EXPECTED:
        assert transition(state, event) is EXPECTED[state, event]
    else:
        with pytest.raises(AssertionError, match=f"{event.name} cannot happen in {state.name}"):
            transition(state, event)


def test_the_table_has_nothing_else() -> None:
    assert TRANSITIONS == EXPECTED


def test_a_pod_never_goes_back() -> None:
    order = list(S)
    assert all(order.index(after) >= order.index(before) for (before, _), after in TRANSITIONS.items())


@pytest.mark.parametrize(
    ("current", "requested", "expected"),
    [(None, 30, 30), (30, 5, 5), (5, 30, 5), (30, 0, 0), (0, 30, 0), (None, -1, 0), (None, 0, 0)],
)
def test_grace_periods_only_become_shorter(current: int | None, requested: int, expected: int) -> None:
    assert effective_grace_period(current, requested) == expected
