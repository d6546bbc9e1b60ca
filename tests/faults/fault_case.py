"""One fault: an agent takes a pod through its whole life with the fault armed, and another one has to put it right.

    before        a foreground run is killed: what it leaves is the armed agent's to reap
    armed agent   static pod `full` (every kind of step) and handed-over pod `job` (exit code 7): started, exec'd,
                  ended; then the agent is stopped, if it lives
    clean agent   the manifest of `full` is there again, and so it has to run; what was accepted of `job` has to be
                  over, its exit code known; both removed, `full` run once more and removed
    afterwards    nothing is left

What a step may do to the outcome depends on where it runs: a container that cannot start fails, a shim that is killed
takes its containers' exit codes with it. Everything else is a mistake.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from podlite.agent.client import AnswerError, NoAgentError, pods_path
from podlite.runtime.image.store import ImageStore
from podlite.runtime.journal import FILE as RECORD
from tests.support.agents import IMAGE, Machine, is_running, manifest, until
from tests.support.leaks import leaked, machine_state, processes_titled

# kind → fault, as podlite.steps reads it
KINDS = {
    "kill": "1*kill",
    "error": "1*error(EIO)",
    "delay": "1*delay(0.3)",
    "ENOSPC": "1*error(ENOSPC)",
    "EMFILE": "1*error(EMFILE)",
    "ENOMEM": "1*error(ENOMEM)",
    "EINTR": "1*error(EINTR)",
}

# Steps that this pod does not go through: what they belong to has tests of faults of its own.
ELSEWHERE = {
    "image.resolve": "tests/integration/image/test_pull_crashes.py",
    "image.download": "tests/integration/image/test_pull_crashes.py",
    "image.unpack": "tests/integration/image/test_pull_crashes.py",
    "image.commit": "tests/integration/image/test_pull_crashes.py",
    "network.plugin": "tests/integration/network",
    "container.run": "from exec to exit: measured, not entered",
}

# Steps of the warm pool: the armed agent has one. `full` cannot be taken from it, for its host port; `job` is.
POOLED = ("sandbox.claim", "sandbox.spare")
# Steps that are taken only where a killed podlite has left something.
ORPHANED = ("reap.orphans",)

FULL = "full"
JOB = "job"
LEFT = "left"
POOL = 2
PHASE_SECONDS = 6.0
LONGEST_SECONDS = 30.0


def full_manifest() -> dict[str, Any]:
    """A pod whose life goes through every step that pods of the built-in network have."""
    found = manifest(FULL, script="trap 'exit 0' TERM; while :; do sleep 0.05; done", shareProcessNamespace=True)
    main = found["spec"]["containers"][0]
    main["ports"] = [{"containerPort": 80, "hostPort": 28080}]
    main["volumeMounts"] = [{"name": "scratch", "mountPath": "/scratch"}]
    found["spec"]["volumes"] = [{"name": "scratch", "emptyDir": {}}]
    found["spec"]["initContainers"] = [{**main, "name": "prepare", "command": ["/bin/true"], "ports": []}]
    return found


class FaultCase:
    """The case of one step and one kind; `run` raises AssertionError with what went wrong."""

    def __init__(self, machine: Machine, step: str, kind: str) -> None:
        self.machine = machine
        self.step = step
        self.kind = kind
        self.accepted = False
        self.fired = ""
        self._holders: set[str] = set()

    @property
    def name(self) -> str:
        return f"{FULL}-{self.machine.node}"

    def run(self) -> None:
        before = machine_state()
        self._holders = set(ImageStore(self.machine.layout.images_dir).holders())
        if self.step in ORPHANED:
            self._leave_an_orphan()
        self._armed()
        self.fired = self.machine.fault_log.read_text() if self.machine.fault_log.exists() else ""
        self._put_right()
        self._audit(before)

    # --- the armed agent --------------------------------------------------------------------

    def _armed(self) -> None:
        machine = self.machine
        machine.drop(FULL, full_manifest())
        self._start()
        self._while_alive(self._answers)
        if self.step in POOLED:
            # They are made one after the other: with the second begun, the first is ready.
            self._while_alive(lambda: self._spares() == POOL)
        if self._alive():
            self._create_job()
            self._while_alive(lambda: self._is(is_running) and self._job_is_over())
        if self._alive():
            self._exec()
            (machine.manifests / f"{FULL}.json").unlink()
            self._while_alive(lambda: not self._is(lambda pod: True))
        if self._alive():
            machine.process.terminate()  # type: ignore[union-attr]
            machine.client.close()
        assert machine.process is not None
        try:
            machine.process.wait(30)
        except subprocess.TimeoutExpired:
            machine.kill()
            raise AssertionError("the agent does not end when it is told to") from None
        machine.client.close()

    def _start(self) -> None:
        more = (f"--warm-pool={POOL}",) if self.step in POOLED else ()
        self.machine.start(*more, faults=f"{self.step}={KINDS[self.kind]}", wait=False)

    def _spares(self) -> int:
        """How many sandboxes for nobody yet have a record."""
        found = 0
        for path in Path(self.machine.layout.pods_dir).glob(f"*/{RECORD}"):
            try:
                found += (
                    b'"name":"spare-' in path.read_bytes().partition(b"\n")[0] and b'"claim"' not in path.read_bytes()
                )
            except OSError:
                continue  # removed meanwhile
        return found

    def _leave_an_orphan(self) -> None:
        """The pod of a foreground run that is killed, and whose shim has ended."""
        machine = self.machine
        run = subprocess.Popen(
            machine.command("run", f"--name={LEFT}", "--image", IMAGE, "--", "/bin/sleep", "1000"),
            env=machine.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        title = f"podlite: shim default/{LEFT}"
        try:
            until(
                lambda: any(b'"starting"' in path.read_bytes() for path in self._records()), "the run has a container"
            )
        finally:
            run.kill()
            run.wait()
        until(lambda: not list(processes_titled(title)), "the killed run's shim has ended")
        assert self._records(), "the killed run has left nothing"

    def _records(self) -> list[Path]:
        return list(Path(self.machine.layout.pods_dir).glob(f"*/{RECORD}"))

    def _alive(self) -> bool:
        return self.machine.process is not None and self.machine.process.poll() is None

    def _while_alive(self, look: Any) -> None:
        """Waits for what should happen, which a fault that has acted may prevent for good."""
        began = deadline = time.monotonic()
        while self._alive():
            if not self._has_acted():
                deadline = time.monotonic() + PHASE_SECONDS
            if time.monotonic() > min(deadline, began + LONGEST_SECONDS):
                return
            try:
                if look():
                    return
            except NoAgentError:
                pass
            time.sleep(0.02)

    def _has_acted(self) -> bool:
        return self.machine.fault_log.exists() and bool(self.machine.fault_log.read_text())

    def _answers(self) -> bool:
        return bool(self.machine.client.request("GET", "/healthz"))

    def _is(self, wanted: Any) -> bool:
        pod = self.machine.pod(self.name)
        return pod is not None and bool(wanted(pod))

    def _create_job(self) -> None:
        try:
            self.machine.create(JOB, script="sleep 0.02; exit 7", restartPolicy="Never")
            self.accepted = True
        except (NoAgentError, AnswerError):
            pass

    def _job_is_over(self) -> bool:
        pod = self.machine.pod(JOB)
        return pod is None or pod["status"].get("phase") in ("Succeeded", "Failed")

    def _exec(self) -> None:
        from tests.support.websockets import Channels, Refused

        try:
            path = pods_path("default", self.name, "exec")
            with Channels(self.machine.socket, path, command="/bin/true", container="main") as channels:
                channels.read_all()
        except (OSError, Refused, AssertionError, StopIteration, Exception) as error:
            # Whatever it is: the fault's doing, and judged by what comes of it.
            del error

    # --- the clean one ----------------------------------------------------------------------

    def _put_right(self) -> None:
        machine = self.machine
        machine.drop(FULL, full_manifest())
        machine.start()
        machine.running(self.name)
        self._check_job()
        self._works()
        self._remove_all()
        machine.drop(FULL, full_manifest())
        machine.running(self.name)
        self._remove_all()
        assert machine.stop() == 0

    def _works(self) -> None:
        from tests.support.websockets import Channels

        path = pods_path("default", self.name, "exec")
        with Channels(self.machine.socket, path, command=["/bin/ls", "/scratch"], container="main") as channels:
            status = channels.read_all()
        assert status is not None
        assert status["status"] == "Success", status

    def _check_job(self) -> None:
        pod = self.machine.pod(JOB)
        if pod is None:
            assert not self.accepted, "a pod that was accepted is lost"
            return
        until(self._job_is_over, "the job is over")
        pod = self.machine.pod(JOB)
        assert pod is not None
        status = pod["status"]
        ended = [each["state"].get("terminated", {}) for each in status.get("containerStatuses", ())]
        code = ended[0].get("exitCode") if ended else None
        assert status["phase"] == "Failed", status
        assert code in self._possible_codes(), f"the job's exit is lost: {status}"

    def _possible_codes(self) -> set[int | None]:
        """What the job's container may have come to: 128 where it could not be started, 137 where its shim died."""
        where = {line.split()[2] for line in self.fired.splitlines()}
        possible: set[int | None] = {7}
        starting = ("container.start", "container.mounts", "container.fork", "container.rootfs", "container.confine")
        if self.step in (*starting, "container.exec", "shim.pause") and self.kind != "delay":
            possible |= {128, 137}
        if "shim" in where and self.kind != "delay":
            possible |= {137, None}
        return possible

    def _remove_all(self) -> None:
        machine = self.machine
        (machine.manifests / f"{FULL}.json").unlink()
        if machine.pod(JOB) is not None:
            machine.delete(JOB)
        until(lambda: not machine.pods(), "all pods are gone")

    # --- afterwards -------------------------------------------------------------------------

    def _audit(self, before: dict[str, set[str]]) -> None:
        layout = self.machine.layout
        left = {}
        for directory in (
            layout.pods_dir,
            layout.containers_dir,
            layout.netns_dir,
            layout.log_dir,
            f"{layout.state_dir}/pods",
            f"{layout.state_dir}/agent/pods",
            f"{layout.run_dir}/network/addresses",
        ):
            found = os.listdir(directory) if os.path.isdir(directory) else []
            if found:
                left[directory] = found
        holders = set(ImageStore(layout.images_dir).holders()) - self._holders
        if holders:
            left["image holders"] = sorted(holders)
        for root in Path("/sys/fs/cgroup").glob(f"*{layout.cgroup_root}"):
            pods = [str(each) for each in root.rglob("pod*")]
            if pods:
                left.setdefault("cgroups", []).extend(pods)
        assert not left, f"left behind: {left}"
        deadline = time.monotonic() + 10
        ours = ("link", "process", "nft")
        while True:
            # The kernel frees network namespaces, and the links in them, in its own time.
            found_more = {kind: names for kind, names in leaked(before, machine_state()).items() if kind in ours}
            if not found_more:
                return
            assert time.monotonic() < deadline, f"left behind: {found_more}"
            time.sleep(0.05)
