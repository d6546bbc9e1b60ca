"""The life of a pod in its worker.

                     TERMINATE (deleted, or ended from outside)
        ┌────────┐   COMPLETE (its containers have)      ┌─────────────┐
        │  SYNC  │ ────────────────────────────────────▶ │ TERMINATING │  containers are being stopped
        └────────┘                                       └─────────────┘
                                                                │ STOPPED
                                                                ▼
        ┌──────────┐  REMOVE (deleted)  ┌──────────┐ RELEASED ┌────────────┐
        │ REMOVING │ ◀───────────────── │ FINISHED │ ◀─────── │ TERMINATED │  volumes and cgroup are given back
        └──────────┘                    └──────────┘          └────────────┘
             │ REMOVED                   kept for a look inside: containers, logs, status
             ▼
        ┌─────────┐
        │ REMOVED │  nothing is left
        └─────────┘

A worker never goes back. A pod that is not admitted begins in FINISHED. TERMINATE has no effect on the state
once it has been left behind; a deletion is remembered in the pod's metadata until FINISHED is reached.
"""

from __future__ import annotations

from enum import Enum


class WorkerState(Enum):
    SYNC = "sync"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FINISHED = "finished"
    REMOVING = "removing"
    REMOVED = "removed"


class WorkerEvent(Enum):
    TERMINATE = "terminate"
    COMPLETE = "complete"
    STOPPED = "stopped"
    RELEASED = "released"
    REMOVE = "remove"
    REMOVED = "removed"


TRANSITIONS = {
    (WorkerState.SYNC, WorkerEvent.TERMINATE): WorkerState.TERMINATING,
    (WorkerState.SYNC, WorkerEvent.COMPLETE): WorkerState.TERMINATING,
    (WorkerState.TERMINATING, WorkerEvent.TERMINATE): WorkerState.TERMINATING,
    (WorkerState.TERMINATING, WorkerEvent.STOPPED): WorkerState.TERMINATED,
    (WorkerState.TERMINATED, WorkerEvent.TERMINATE): WorkerState.TERMINATED,
    (WorkerState.TERMINATED, WorkerEvent.RELEASED): WorkerState.FINISHED,
    (WorkerState.FINISHED, WorkerEvent.TERMINATE): WorkerState.FINISHED,
    (WorkerState.FINISHED, WorkerEvent.REMOVE): WorkerState.REMOVING,
    (WorkerState.REMOVING, WorkerEvent.TERMINATE): WorkerState.REMOVING,
    (WorkerState.REMOVING, WorkerEvent.REMOVED): WorkerState.REMOVED,
    (WorkerState.REMOVED, WorkerEvent.TERMINATE): WorkerState.REMOVED,
}


def transition(state: WorkerState, event: WorkerEvent) -> WorkerState:
    """The state after an event. Raises AssertionError for an event that cannot happen in `state`."""
    assert (state, event) in TRANSITIONS, f"{event.name} cannot happen in {state.name}"
    return TRANSITIONS[state, event]
