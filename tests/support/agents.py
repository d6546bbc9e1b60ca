"""Agents as processes of their own, in directories of their own, to be killed and replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from podlite.agent.client import AnswerError, Client, NoAgentError, pods_path
from podlite.runtime.layout import Layout

T = TypeVar("T")

IMAGE = "podlite.local/host:1"
SECONDS = 60.0


def until(look: Callable[[], T | None], what: str = "", found_out: Callable[[], object] = lambda: "") -> T:
    """Waits until `look` returns something. What is `found_out` where it does not is told."""
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"in vain: {what or look} {found_out()}".rstrip())
        time.sleep(0.01)
    return found


class Machine:
    """The directories of one machine's podlite, and the agents that run there one after the other."""

    def __init__(self, layout: Layout, *, network: str = "none", impatient: bool = False) -> None:
        """With `impatient` agents try again after a fifth of a second what the kubelet tries after ten."""
        self.layout = layout
        self.manifests = Path(layout.run_dir).parent / "manifests"
        self.manifests.mkdir(exist_ok=True)
        self.node = os.uname().nodename.lower()
        self.socket = f"{layout.run_dir}/podlite.sock"
        self.client = Client(self.socket)
        self._network = network
        self._impatient = impatient
        self.fault_log = Path(layout.run_dir).parent / "faults.log"
        self._special = False
        self.process: subprocess.Popen[bytes] | None = None
        self.log = Path(layout.run_dir).parent / "agent.log"

    def directories(self) -> list[str]:
        """The options that name them."""
        layout = self.layout
        return [
            f"--run-dir={layout.run_dir}",
            f"--state-dir={layout.state_dir}",
            f"--log-dir={layout.log_dir}",
            f"--netns-dir={layout.netns_dir}",
            f"--cgroup-root={layout.cgroup_root}",
        ]

    def environment(self, faults: str = "") -> dict[str, str]:
        names = {"run-dir": "run_dir", "state-dir": "state_dir", "log-dir": "log_dir", "netns-dir": "netns_dir"}
        found = {**os.environ, "PYTHONPATH": os.getcwd()}
        for option, field in (*names.items(), ("cgroup-root", "cgroup_root")):
            found[f"PODLITE_{option.upper().replace('-', '_')}"] = getattr(self.layout, field)
        if faults:
            found["PODLITE_FAULTS"] = faults
            found["PODLITE_FAULTS_LOG"] = str(self.fault_log)
        return found

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "podlite", *arguments]

    def start(
        self, *arguments: str, faults: str = "", wait: bool = True, wrapper: tuple[str, ...] = ()
    ) -> subprocess.Popen[bytes]:
        """Starts an agent, by way of a `wrapper` if there is one; returns when it answers."""
        self._special = bool(arguments or faults or wrapper)
        log = self.log.open("ab")
        command = self.command("agent", f"--manifest-dir={self.manifests}", f"--network={self._network}", *arguments)
        if self._impatient:
            command = [sys.executable, "-m", "tests.support.impatient_agent", str(self.manifests), self._network]
            command += arguments
        self.process = subprocess.Popen(
            [*wrapper, *command],
            env=self.environment(faults),
            stdout=log,
            stderr=log,
        )
        log.close()
        if wait:
            until(self.ready, "the agent answers")
        return self.process

    def ready(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"the agent ended with {code}: {self.log.read_text()}"
        try:
            return bool(self.client.request("GET", "/healthz"))
        except NoAgentError:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.client.close()

    def stop(self) -> int:
        """SIGTERM; the agent's exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.client.close()
        return self.process.wait(SECONDS)

    def podlite(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Another podlite command with these directories."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS * 2,
            **options,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    # --- pods -------------------------------------------------------------------------------

    def drop(self, name: str, whole: dict[str, Any] | None = None, **fields: Any) -> str:
        """Puts a manifest into the agent's directory, whole at once; returns the name that its pod will have."""
        path = self.manifests / f".{name}.json"
        path.write_text(json.dumps(whole or manifest(name, **fields)))
        path.rename(self.manifests / f"{name}.json")
        return f"{name}-{self.node}"

    def create(self, name: str, **fields: Any) -> dict[str, Any]:
        created: dict[str, Any] = self.client.request("POST", pods_path("default"), manifest(name, **fields))
        return created

    def pod(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.client.request("GET", pods_path("default", name))
            return found
        except AnswerError as error:
            assert error.reason == "NotFound", error
            return None

    def pods(self) -> list[dict[str, Any]]:
        return list(self.client.request("GET", pods_path(""))["items"])

    def wait(self, name: str, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Waits until a pod is as it should be."""

        def look() -> dict[str, Any] | None:
            pod = self.pod(name)
            return pod if pod is not None and wanted(pod) else None

        return until(look, f"{name} is as wanted:", lambda: self._tell(name))

    def _tell(self, name: str) -> dict[str, Any] | None:
        """The pod; and an impatient agent tells in its log what it waits for."""
        if self._impatient and self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(1)
        return self.pod(name)

    def running(self, name: str) -> dict[str, Any]:
        return self.wait(name, is_running)

    def gone(self, name: str) -> None:
        until(lambda: self.pod(name) is None, f"{name} is gone")

    def delete(self, name: str, grace: int | None = 0) -> None:
        self.client.request("DELETE", pods_path("default", name), gracePeriodSeconds=grace)

    def clean_up(self) -> None:
        """Ends everything: no agent, no pods. What an agent had to be killed for is removed too."""
        for each in self.manifests.iterdir():
            each.unlink()
        if self._special and self.process is not None and self.process.poll() is None:
            self.stop()  # other sources, or faults: a plain one ends what it has left
        if self.process is None or self.process.poll() is not None:
            self.start()
        for pod in self.pods():
            if "kubernetes.io/config.source" not in pod["metadata"].get("annotations", {}):
                self.delete(pod["metadata"]["name"])
        until(lambda: not self.pods(), "all pods are gone")
        self.stop()


@contextmanager
def a_machine(layout: Layout, **options: Any) -> Iterator[Machine]:
    machine = Machine(layout, **options)
    try:
        yield machine
    except BaseException:
        if machine.log.exists():
            print(machine.log.read_text()[-20_000:])
        raise
    finally:
        machine.clean_up()


def manifest(name: str, script: str = "exec sleep 1000", **spec: Any) -> dict[str, Any]:
    """A pod with one container, `main`, that runs a script."""
    labels = spec.pop("labels", {})
    container = {"name": "main", "image": IMAGE, "command": ["/bin/sh", "-c", script], **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def is_running(pod: dict[str, Any]) -> bool:
    return pod["status"].get("phase") == "Running"


def container_status(pod: dict[str, Any], name: str = "main") -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in pod["status"]["containerStatuses"] if each["name"] == name)
    return found


def identity(pod: dict[str, Any]) -> dict[str, Any]:
    """What must not change of a pod when somebody else takes it over."""
    status = pod["status"]
    return {
        "uid": pod["metadata"]["uid"],
        "created": pod["metadata"]["creationTimestamp"],
        "start": status["startTime"],
        "ips": status.get("podIPs"),
        "containers": [
            (each["name"], each["containerID"], each["restartCount"], each["state"])
            for each in status["containerStatuses"]
        ],
    }
