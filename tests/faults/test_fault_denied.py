"""One system call is denied to podlite and to all that it starts, as by an old kernel or somebody's seccomp filter.

Either podlite has another way, or it says in a sentence what it cannot do; it leaves nothing half done, and with the
call allowed again everything works.
"""

from __future__ import annotations

import os
import sys

import pytest

from podlite.agent.client import NoAgentError
from tests.faults.conftest import Account
from tests.faults.fault_case import FaultCase
from tests.support.agents import Machine

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

CALLS = (
    *("openat2", "clone3", "move_mount", "open_tree", "mount_setattr", "fsopen", "fsconfig", "fsmount"),
    *("pidfd_open", "close_range", "memfd_create", "unshare", "setns", "pivot_root", "sethostname", "bpf", "keyctl"),
    *("inotify_init1", "sendmsg", "mknodat", "umount2", "capset", "seccomp", "fsync"),
)
SOME = ("openat2", "clone3", "move_mount", "pidfd_open", "unshare")
FULL = os.environ.get("PODLITE_FAULTS_SUITE") == "full"


class DeniedCase(FaultCase):
    """The case of one call."""

    def __init__(self, machine: Machine, call: str, error: str) -> None:
        super().__init__(machine, f"{call} denied", "delay")
        self.call = call
        self.error = error
        self.worked = False

    def _start(self) -> None:
        wrapper = (sys.executable, "-m", "tests.support.deny", self.call, self.error)
        self.machine.start(wait=False, wrapper=wrapper)

    def _has_acted(self) -> bool:
        # What is denied is denied from the beginning; either everything happens, or it is said why not.
        try:
            return bool(self._what_was_said())
        except NoAgentError:
            return False

    def _exec(self) -> None:
        super()._exec()
        pod = self.machine.pod(self.name)
        self.worked = pod is not None and pod["status"].get("phase") == "Running"
        self.said = self._what_was_said()

    def _what_was_said(self) -> str:
        """The last warning about the pod, as `podlite describe` shows it."""
        events = self.machine.client.request("GET", "/api/v1/events", fieldSelector="type=Warning,reason!=BackOff")[
            "items"
        ]
        messages = [each["message"] for each in events if each["involvedObject"]["name"] == self.name]
        return messages[-1] if messages else ""

    said = ""

    def _possible_codes(self) -> set[int | None]:
        return {7, 128, 137, None}


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"] if FULL else ["ENOSYS"])
@pytest.mark.parametrize("call", CALLS if FULL else SOME)
def test_denied(fault_machine: Machine, account: Account, call: str, error: str) -> None:
    case = DeniedCase(fault_machine, call, error)
    try:
        case.run()
    finally:
        log = fault_machine.log.read_text() if fault_machine.log.exists() else ""
        print(log[-15_000:])
    assert "Traceback" not in log
    lines = [line for line in log.splitlines() if line.startswith("podlite: ")]
    said = case.said or " ".join(lines)
    assert case.worked or said, "neither works nor says why not"
    how = "works" if case.worked else f"says: {said[:160]}"
    account.other.append(f"{call} denied ({error}): {how}")
