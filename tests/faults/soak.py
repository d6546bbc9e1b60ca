"""Random churn, kills and faults against an oracle of what should be running.

    python -m tests.faults.soak [--minutes 60] [--seed N] [--pods 12] [--network builtin]

The oracle knows what was asked for and accepted: pods to be there until they are deleted, with what they may have come
to; a pod that was deleted must go. It is compared with what there is whenever things have settled. The test suite runs
less than a minute of it; an hour is for by hand. In the end nothing may be left, and the report says how many faults
were survived.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

from podlite.agent.client import AnswerError, NoAgentError
from podlite.linux.syscalls import MNT_DETACH, umount2
from podlite.runtime.layout import Layout
from tests.support.agents import Machine, container_status, manifest, until
from tests.support.leaks import leaked, machine_state

# What agents are armed with when they are replaced: errors that retrying has to cure.
FAULTS = (
    "",
    "",
    "sandbox.run=1*off->1*error(EIO)",
    "container.start=2*off->1*error(ENOMEM)",
    "network.setup=1*error(ENOSPC)",
    "container.stop=1*error(EINTR)",
    "sandbox.stop=1*error(EMFILE)",
    "sandbox.remove=1*error(EIO)",
    "pod.cleanup=1*error(ENOSPC)",
    "netns.create=1*off->1*kill",
    "container.create=2*off->1*kill",
    "sandbox.remove=1*off->1*kill",
    "container.remove=1*kill",
    "shim.setup=1*off->1*error(ENOMEM)",
)


class Wanted:
    """One pod of the oracle. `codes` are the exit codes that it may end with, none for one that runs for ever."""

    def __init__(self, name: str, *, static: bool, codes: tuple[int, ...] = ()) -> None:
        self.name = name
        self.static = static
        self.codes = codes
        self.shim_killed = False


class Soak:
    """One run on one machine's directories."""

    def __init__(self, machine: Machine, seed: int, most: int) -> None:
        self.machine = machine
        self.random = random.Random(seed)
        self.most = most
        self.wanted: dict[str, Wanted] = {}
        self.done: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._count = 0
        # What was done last, for whoever has to find out why.
        self.history: deque[str] = deque(maxlen=60)

    def _did(self, what: str) -> None:
        now = time.time()
        self.history.append(f"{time.strftime('%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03} {what}")

    def run(self, seconds: float) -> None:
        """Raises AssertionError where the machine is not what the oracle says."""
        self.machine.start()
        deadline = time.monotonic() + seconds
        actions = [
            *[self._create] * 5,
            *[self._drop] * 3,
            *[self._delete] * 5,
            *[self._exec] * 2,
            self._kill_agent,
            self._stop_agent,
            self._kill_shim,
            self._kill_spawner,
            self._kill_container,
            self._stop_a_while,
        ]
        while time.monotonic() < deadline:
            for _ in range(self.random.randint(3, 10)):
                self._do(self.random.choice(actions))
            self._settle()
            self.done["checks"] += 1
        for name in list(self.wanted):
            self._remove(self.wanted[name])
        self._settle()

    def _do(self, action: Any) -> None:
        try:
            action()
        except NoAgentError:
            # An armed fault has killed it.
            self._replace("killed by a fault")

    # --- what is done -----------------------------------------------------------------------

    def _new(self, *, static: bool) -> tuple[Wanted, dict[str, Any]]:
        self._count += 1
        name = f"pod-{self._count}"
        code = self.random.choice((0, 7))
        ends = self.random.random() < 0.4
        script = (
            f"sleep 0.{self.random.randint(0, 9)}; exit {code}" if ends else "trap 'exit 0' TERM; sleep 1000 & wait"
        )
        text = manifest(name, script, restartPolicy="Never" if ends else "Always")
        full = f"{name}-{self.machine.node}" if static else name
        return Wanted(full, static=static, codes=(code,) if ends else ()), text

    def _create(self) -> None:
        if len(self.wanted) >= self.most:
            return
        wanted, text = self._new(static=False)
        # Should the agent die before it answers, the pod may be there or not: it is deleted, to know.
        try:
            self.machine.client.request("POST", "/api/v1/namespaces/default/pods", text)
        except NoAgentError:
            self._replace("killed by a fault")
            self._forget(wanted.name)
            return
        self.wanted[wanted.name] = wanted
        self._did(f"{wanted.name} created")
        self.done["created"] += 1

    def _forget(self, name: str) -> None:
        """Deletes a pod of which it is not known whether it is there, until an agent has answered."""
        self._did(f"{name} is to be forgotten")
        while True:
            try:
                self.machine.delete(name)
                return
            except AnswerError as error:
                assert error.reason == "NotFound", error
                return
            except NoAgentError:
                # Its end may be what the fault waited for.
                self._replace("killed by a fault")

    def _drop(self) -> None:
        if len(self.wanted) >= self.most:
            return
        wanted, text = self._new(static=True)
        self.machine.drop(text["metadata"]["name"], text)
        self.wanted[wanted.name] = wanted
        self.done["dropped"] += 1

    def _delete(self) -> None:
        if self.wanted:
            self._remove(self.wanted[self.random.choice(list(self.wanted))])
            self.done["removed"] += 1

    def _remove(self, wanted: Wanted) -> None:
        if wanted.static:
            path = self.machine.manifests / f"{wanted.name.removesuffix(f'-{self.machine.node}')}.json"
            path.unlink()
            self._did(f"{wanted.name}'s manifest removed")
            del self.wanted[wanted.name]
            return
        # Should the agent die before it answers, the deletion may have been taken on or not: it is asked for again.
        del self.wanted[wanted.name]
        try:
            self.machine.delete(wanted.name, grace=self.random.choice((0, 1)))
            self._did(f"{wanted.name} deleted")
        except NoAgentError:
            self._replace("killed by a fault")
            self._forget(wanted.name)

    def _running(self) -> dict[str, Any] | None:
        found = [each for each in self.machine.pods() if each["status"].get("phase") == "Running"]
        found = [each for each in found if each["metadata"]["name"] in self.wanted]
        return self.random.choice(found) if found else None

    def _exec(self) -> None:
        pod = self._running()
        if pod is not None:
            self.machine.podlite("exec", pod["metadata"]["name"], "--", "/bin/true", check=False)
            self.done["exec'd"] += 1

    # --- what goes wrong --------------------------------------------------------------------

    def _replace(self, why: str) -> None:
        machine = self.machine
        assert machine.process is not None
        if machine.process.poll() is None:
            machine.kill()
        machine.client.close()
        self.faults[f"agent {why}"] += 1
        faults = self.random.choice(FAULTS)
        self._did(f"agent {why}, the next one armed with {faults or 'nothing'}")
        machine.start(faults=faults, wait=False)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if machine.process.poll() is not None:
                self.faults["agent killed by a fault"] += 1
                self._did("agent killed by a fault as it began")
                machine.start(wait=False)
            try:
                if machine.client.request("GET", "/healthz"):
                    break
            except NoAgentError:
                time.sleep(0.01)
        self._did(f"agent {machine.process.pid} answers")
        if faults:
            self.faults[f"armed: {faults.partition('=')[0]}"] += 1

    def _kill_agent(self) -> None:
        self._replace("killed")

    def _stop_agent(self) -> None:
        self.machine.stop()
        self._replace("stopped and started")

    def _pid(self, pod: dict[str, Any]) -> int:
        """The first process of a pod's container, 0 if it has none now."""
        done = self.machine.podlite("inspect", "--record", pod["metadata"]["name"], check=False)
        if done.returncode:
            return 0
        shim = json.loads(done.stdout).get("shim") or {}
        return next((each["pid"] for each in shim.get("containers", ()) if each["state"] == "running"), 0)

    def _kill_shim(self) -> None:
        pod = self._running()
        pid = self._pid(pod) if pod is not None else 0
        if pod is None or not pid:
            return
        self.wanted[pod["metadata"]["name"]].shim_killed = True
        try:
            shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if b"podlite: shim" in Path(f"/proc/{shim}/cmdline").read_bytes():
                os.kill(shim, signal.SIGKILL)
                self.faults["shim killed"] += 1
        except OSError:
            pass  # it has ended

    def _kill_spawner(self) -> None:
        assert self.machine.process is not None
        for file in Path(f"/proc/{self.machine.process.pid}/task").glob("*/children"):
            for pid in file.read_text().split():
                try:
                    if b"spawner" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(int(pid), signal.SIGKILL)
                        self.faults["spawner killed"] += 1
                except OSError:
                    pass

    def _kill_container(self) -> None:
        pod = self._running()
        pid = self._pid(pod) if pod is not None else 0
        if pod is not None and pid:
            self.wanted[pod["metadata"]["name"]].codes += (137,) if self.wanted[pod["metadata"]["name"]].codes else ()
            try:
                os.kill(pid, signal.SIGKILL)
                self.faults["container killed"] += 1
            except ProcessLookupError:
                pass

    def _stop_a_while(self) -> None:
        assert self.machine.process is not None
        pid = self.machine.process.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(pid, signal.SIGCONT)
        self.faults["agent stopped for a while"] += 1

    # --- what should be ---------------------------------------------------------------------

    def _settle(self) -> None:
        """Waits until the machine is what the oracle says; armed faults are over by then."""

        def look() -> bool:
            try:
                return not self._differences()
            except NoAgentError:
                self._replace("killed by a fault")
                return False

        try:
            until(look)
        except AssertionError:
            self._tell()
            raise AssertionError(f"not as it should be: {self._differences()}") from None

    def _tell(self) -> None:
        """What there is to know of it, for whoever has to find out why."""
        machine = self.machine
        print(self.report())
        print(*self.history, sep="\n")
        differences = self._differences()
        print(differences)
        for pod in machine.pods():
            name = pod["metadata"]["name"]
            if any(each.startswith(f"{name} ") for each in differences):
                print(json.dumps(pod, indent=1))
                print(machine.podlite("describe", "pod", name, check=False).stdout)
                print(machine.podlite("inspect", "--record", name, check=False).stdout)
        assert machine.process is not None
        os.kill(machine.process.pid, signal.SIGUSR1)
        until(lambda: "\ntold\n" in machine.log.read_text(), "the agent has told what it waits for")

    def _differences(self) -> list[str]:
        found = {each["metadata"]["name"]: each for each in self.machine.pods()}
        wrong = [f"{name} is there" for name in found.keys() - self.wanted.keys()]
        wrong += [f"{name} is missing" for name in self.wanted.keys() - found.keys()]
        for name, wanted in self.wanted.items():
            if name in found:
                problem = self._problem(wanted, found[name])
                if problem:
                    wrong.append(f"{name} {problem}")
        return wrong

    def _problem(self, wanted: Wanted, pod: dict[str, Any]) -> str:
        status = pod["status"]
        phase = status.get("phase")
        if not wanted.codes:
            ready = [each["ready"] for each in status.get("containerStatuses", ())]
            return "" if phase == "Running" and ready == [True] else f"is {phase}, ready {ready}"
        if phase not in ("Succeeded", "Failed"):
            return f"is {phase}, not over"
        if wanted.shim_killed or status.get("reason"):
            return ""  # what its container came to died with the shim
        ended = container_status(pod)["state"].get("terminated", {})
        # 128: an armed fault kept it from starting.
        if ended.get("exitCode") not in (*wanted.codes, 128):
            return f"ended with {ended}, not {wanted.codes}"
        return ""

    def report(self) -> str:
        """What was done, and how much was survived."""
        done = ", ".join(f"{count} {what}" for what, count in sorted(self.done.items()))
        faults = ", ".join(f"{what}: {count}" for what, count in sorted(self.faults.items()))
        return f"{sum(self.faults.values())} faults survived ({faults}); {done}"


def soak(directory: str, seconds: float, seed: int, *, most: int = 12, network: str = "none", cgroup_root: str) -> str:
    """One whole run in a directory; returns the report. Raises AssertionError."""
    layout = Layout(
        run_dir=f"{directory}/run",
        state_dir=f"{directory}/state",
        log_dir=f"{directory}/log",
        netns_dir=f"{directory}/netns",
        cgroup_root=cgroup_root,
    )
    before = machine_state()
    machine = Machine(layout, network=network, impatient=True)
    run = Soak(machine, seed, most)
    try:
        run.run(seconds)
        machine.stop()
    except BaseException:
        if machine.log.exists():
            print(machine.log.read_text()[-60_000:])
        raise
    finally:
        machine.clean_up()
    print(run.report(), flush=True)
    left = {
        path: [str(each.relative_to(path)) for each in Path(path).rglob("*")]
        for path in (
            layout.pods_dir,
            layout.containers_dir,
            layout.netns_dir,
            layout.log_dir,
            f"{layout.state_dir}/pods",
        )
        if os.path.isdir(path) and os.listdir(path)
    }
    assert not left, f"left behind: {left}"

    def nothing_left() -> bool:
        found = leaked(before, machine_state())
        return not (found.get("process") or found.get("link") or found.get("nft"))

    until(nothing_left, "no process, link or table is left")
    return run.report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="how long (60)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the random choices (the time)")
    parser.add_argument("--pods", type=int, default=12, help="at most so many at a time (12)")
    parser.add_argument("--network", default="builtin", choices=("builtin", "none", "host"), help="the pods' (builtin)")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="podlite-soak-") as directory:
        try:
            report = soak(
                directory,
                arguments.minutes * 60,
                arguments.seed,
                most=arguments.pods,
                network=arguments.network,
                cgroup_root=f"/podlite-soak-{os.getpid()}",
            )
            print(report)
        finally:
            umount2(f"{directory}/netns", MNT_DETACH)


if __name__ == "__main__":
    main()
