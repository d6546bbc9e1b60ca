"""`podlite run --detach`: hands pods to the agent of this machine, which is started if none runs."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from podlite.agent.client import AnswerError, Client, pods_path
from podlite.agent.local_api import agent_socket, runs_here
from podlite.cli import api, terminal
from podlite.cli.directories import DEFAULTS
from podlite.errors import PodliteError
from podlite.runtime import run_directory

if TYPE_CHECKING:
    from podlite.api.base import Object
    from podlite.api.manifest import Manifests

_START_SECONDS = 30.0
_LOG = "agent.log"


def run_detached(arguments: argparse.Namespace, manifests: Manifests) -> int:
    """Creates the objects and pods; returns the exit status. Raises PodliteError; what was created by then stays."""
    run_dir = os.path.abspath(arguments.run_dir)
    if not runs_here(run_dir):
        start_agent(arguments, run_dir)
    with Client(agent_socket(run_dir)) as client, api.server_errors():
        for value in (*manifests.config_maps, *manifests.secrets):
            _put(client, value)
        for pod in manifests.pods:
            path = pods_path(pod.metadata.namespace or api.DEFAULT_NAMESPACE)
            created = client.request("POST", path, pod)
            _say(arguments, f"pod/{created['metadata']['name']}", "created")
    return 0


def _say(arguments: argparse.Namespace, name: str, what: str) -> None:
    if arguments.output is None and not arguments.quiet:
        print(f"{name} {what}", flush=True)


def _put(client: Client, value: Object) -> None:
    """Creates a ConfigMap or Secret, or replaces the one of that name."""
    kind = api.find_kind(value.kind)  # type: ignore[attr-defined]
    meta = value.metadata  # type: ignore[attr-defined]
    path = api.path(kind, meta.namespace or api.DEFAULT_NAMESPACE)
    try:
        client.request("POST", path, value)
    except AnswerError as error:
        if error.reason != "AlreadyExists":
            raise
        client.request("PUT", f"{path}/{meta.name}", value)


def start_agent(arguments: argparse.Namespace, run_dir: str) -> None:
    """Starts an agent that outlives this process, with the directories and the network of the command line.

    Returns when it answers. Raises PodliteError if it does not.
    """
    run_directory.prepare(run_dir)
    log = f"{run_dir}/{_LOG}"
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "podlite", "agent", *_options(arguments)],
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=fd,
            cwd="/",
            # Not of this terminal's session: Ctrl-C and a hang-up are not its concern.
            start_new_session=True,
        )
    finally:
        os.close(fd)
    deadline = time.monotonic() + _START_SECONDS
    while not runs_here(run_dir):
        code = process.poll()
        if code is not None and not runs_here(run_dir):
            raise PodliteError(f"the podlite agent ended with exit status {code}: {_last_line(log)}", hint=f"see {log}")
        if time.monotonic() > deadline:
            raise PodliteError("the podlite agent does not answer", hint=f"see {log}")
        time.sleep(0.01)
    # It is the agent's own from now on: nobody here waits for it.
    process.returncode = 0
    terminal.note(f"podlite: an agent has been started, process {process.pid}; its log is {log}")


def _options(arguments: argparse.Namespace) -> list[str]:
    given = vars(arguments)
    words = []
    for name in DEFAULTS:
        value: Any = given.get(name.replace("-", "_"))
        if value:
            words.append(f"--{name}={value if name == 'cgroup-root' else os.path.abspath(value)}")
    words.append(f"--network={arguments.network}")
    words += [f"--pod-cidr={each}" for each in arguments.pod_cidr]
    if getattr(arguments, "cni_conf_dir", ""):
        words.append(f"--cni-conf-dir={arguments.cni_conf_dir}")
    for each in getattr(arguments, "cni_bin_dir", None) or ():
        words.append(f"--cni-bin-dir={each}")
    return words


def _last_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
    except OSError:
        return ""
    return lines[-1] if lines else "it said nothing"
