"""`podlite` as a person has it: real processes, in a network namespace and directories of the test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from podlite.runtime.layout import Layout
from tests.support.leaks import processes_titled
from tests.support.terminal import Terminal

HOST_IMAGE = "podlite.local/host:1"
# Far beyond what anything takes: a test that waits so long has failed.
SECONDS = 60.0


class Done:
    """What a command did: its exit status, and what it wrote."""

    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.status = status
        self.raw = out
        self.out = out.decode(errors="replace")
        self.err = err.decode(errors="replace")

    def __repr__(self) -> str:
        return f"exit status {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """A `podlite` that runs; its output is in files, so that it can be looked at meanwhile."""

    def __init__(self, process: subprocess.Popen[bytes], directory: str) -> None:
        self.process = process
        self._directory = directory

    @property
    def out(self) -> str:
        return self._read("out").decode(errors="replace")

    @property
    def err(self) -> str:
        return self._read("err").decode(errors="replace")

    def _read(self, name: str) -> bytes:
        with open(f"{self._directory}/{name}", "rb") as file:
            return file.read()

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Waits for a condition; fails at once when the process ends before."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            ended = self.process.poll() is not None
            assert condition() or not ended, f"{what}: it ended before\n{self._done()}"
            assert time.monotonic() < deadline, f"{what}: it does not happen\n{self.out}\n{self.err}"
            time.sleep(0.01)

    def until_out(self, text: str) -> None:
        self.until(lambda: text in self.out, f"{text!r} on standard output")

    def until_err(self, text: str) -> None:
        self.until(lambda: text in self.err, f"{text!r} on standard error")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> Done:
        self.process.wait(SECONDS)
        return self._done()

    def _done(self) -> Done:
        return Done(self.process.returncode, self._read("out"), self._read("err"))


class Podlite:
    """Runs commands. What it started and what is still there ends with `close`."""

    def __init__(self, layout: Layout, netns: str, directory: str) -> None:
        self.layout = layout
        self.netns = netns
        self.directory = directory
        self._commands: list[Command] = []
        self._count = 0

    def environment(self, **more: str) -> dict[str, str]:
        layout = self.layout
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PODLITE_")}
        return {
            **kept,
            "PYTHONPATH": os.getcwd(),
            "PODLITE_RUN_DIR": layout.run_dir,
            "PODLITE_STATE_DIR": layout.state_dir,
            "PODLITE_LOG_DIR": layout.log_dir,
            "PODLITE_NETNS_DIR": layout.netns_dir,
            "PODLITE_CGROUP_ROOT": layout.cgroup_root,
            **more,
        }

    def argv(self, *words: str) -> list[str]:
        """nsenter(1) becomes the program that it starts, so the process id is podlite's."""
        return ["nsenter", f"--net={self.netns}", "--", sys.executable, "-m", "podlite", *words]

    def __call__(self, *words: str, stdin: str | bytes = b"", env: dict[str, str] | None = None) -> Done:
        """Runs a command to its end."""
        done = subprocess.run(
            self.argv(*words),
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env=self.environment(**(env or {})),
            timeout=SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str, env: dict[str, str] | None = None, **options: Any) -> Command:
        """Starts a command, and does not wait for it. `options` are those of subprocess.Popen."""
        self._count += 1
        directory = f"{self.directory}/command-{self._count}"
        os.mkdir(directory)
        with open(f"{directory}/out", "wb") as out, open(f"{directory}/err", "wb") as err:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, **options}
            process = subprocess.Popen(self.argv(*words), env=self.environment(**(env or {})), **streams)
        command = Command(process, directory)
        self._commands.append(command)
        return command

    def terminal(self, *words: str, env: dict[str, str] | None = None, **options: Any) -> Terminal:
        """A command on a terminal of its own: a context manager."""
        return Terminal(self.argv(*words), self.environment(**(env or {})), **options)

    def run_in_background(self, text: str, *words: str, says: str = "started") -> Command:
        """Starts `podlite run` for a manifest, and waits until its standard error says something."""
        command = self.start("run", *words, self.manifest(text))
        command.until_err(says)
        return command

    def manifest(self, text: str) -> str:
        """A file with this text."""
        self._count += 1
        path = f"{self.directory}/manifest-{self._count}.yaml"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def left(self) -> dict[str, list[str]]:
        """What of podlite's is there that should be gone when every pod is; empty if nothing."""
        layout = self.layout
        places = {
            "pods": layout.pods_dir,
            "netns": layout.netns_dir,
            "containers": layout.containers_dir,
            "logs": layout.log_dir,
            "volumes": f"{layout.state_dir}/pods",
        }
        found = {name: _names(path) for name, path in places.items()}
        found["cgroups"] = [root for root in _cgroup_roots(layout.cgroup_root) if os.path.exists(root)]
        found["processes"] = [f"{pid} {title}" for pid, title in self.processes()]
        return {name: names for name, names in found.items() if names}

    def processes(self) -> Iterable[tuple[int, str]]:
        """The spawners and shims on the test's own network, which are nobody else's."""
        ours = os.stat(self.netns).st_ino
        for pid, title in processes_titled("podlite:"):
            try:
                if os.stat(f"/proc/{pid}/ns/net").st_ino == ours:
                    yield pid, title
            except FileNotFoundError:
                continue  # ended meanwhile

    def end(self) -> None:
        """Ends the commands that still run, in good order: interrupted until they give up their grace periods."""
        deadline = time.monotonic() + SECONDS
        running = [each.process for each in self._commands]
        while running := [each for each in running if each.poll() is None]:
            assert time.monotonic() < deadline, f"these do not end when interrupted: {running}"
            for process in running:
                process.send_signal(signal.SIGINT)
            try:
                running[0].wait(0.3)
            except subprocess.TimeoutExpired:
                continue

    def close(self) -> None:
        """Ends everything, whatever the test has left."""
        for command in self._commands:
            if command.process.poll() is None:
                command.process.kill()
                command.process.wait()
        if self.left():
            self("rm", "--all", "--force")
            self("prune", "--all")


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _cgroup_roots(root: str) -> list[str]:
    top = "/sys/fs/cgroup"
    return [f"{top}{root}", *(f"{top}/{name}{root}" for name in _names(top))]


def pod(
    command: str, *, name: str = "demo", container: str = "main", restart: str = "Never", spec: str = "", more: str = ""
) -> str:
    """A manifest of one container that runs a shell script; `spec` and `more` are YAML for pod and container."""
    return f"""apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  restartPolicy: {restart}
{_indent(spec, 2)}  containers:
  - name: {container}
    image: {HOST_IMAGE}
    command: ["/bin/sh", "-c", {json.dumps(command)}]
{_indent(more, 4)}"""


def _indent(text: str, by: int) -> str:
    return "".join(f"{' ' * by}{line}\n" for line in text.strip("\n").splitlines())
