"""The exit status of `podlite run`: TABLE says what there is, `verdict` which one it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStateTerminated

SUCCESS, FAILED, USAGE, TIMEOUT, CANNOT_RUN, CANNOT_INVOKE, NOT_FOUND = 0, 1, 2, 124, 125, 126, 127
INTERRUPTED, TERMINATED, HUNG_UP, CLOSED = 130, 143, 129, 141

TABLE = (
    ("0", "every pod Succeeded"),
    ("the container's", "the exit code of the first container that failed"),
    ("1", "a pod Failed with no container to blame (a deadline, for example)"),
    ("2", "the command line was not understood"),
    ("124", "`--timeout` was reached"),
    ("125", "podlite could not run it: bad manifest, image, sandbox, missing privilege"),
    ("126, 127", "the command cannot be invoked; was not found"),
    ("130, 143", "ended by Ctrl-C (SIGINT), by SIGTERM"),
    ("129, 141", "ended by the terminal's hang-up; nobody reads the output any more (a closed pipe)"),
)


class Verdict(NamedTuple):
    """An exit status and the line that says why; empty for success."""

    status: int
    why: str


def verdict(pods: list[Pod]) -> Verdict:
    """The exit status for pods that have ended. Pure."""
    failures = [found for pod in pods if (found := _failure(pod)) is not None]
    if not failures:
        return Verdict(SUCCESS, "")
    _, status, why = min(failures)
    return Verdict(status, why)


def _failure(pod: Pod) -> tuple[str, int, str] | None:
    """(when, status, why) of a pod that did not succeed."""
    if pod.status.phase == "Succeeded":
        return None
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    ended = []
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        terminated = status.state.terminated or status.last_state.terminated
        if terminated is not None and terminated.exit_code != 0:
            ended.append((terminated.finished_at or "", status.name, terminated))
    if ended and pod.status.reason not in ("DeadlineExceeded", "Evicted"):
        when, container, terminated = min(ended, key=lambda each: each[0])
        why = f"container {container} of pod {name} {_how(terminated)}"
        return when, container_status(terminated), why
    reason = ": ".join(each for each in (pod.status.reason, pod.status.message) if each)
    why = f"pod {name} is {pod.status.phase or 'Unknown'}" + (f": {reason}" if reason else "")
    return pod.status.start_time or "", FAILED if pod.status.phase == "Failed" else CANNOT_RUN, why


def container_status(terminated: ContainerStateTerminated) -> int:
    """The exit status for a container: its exit code, or a shell's answer for one that was never executed."""
    if terminated.reason == "StartError":
        return start_error_status(terminated.message)
    return terminated.exit_code


def start_error_status(message: str) -> int:
    """127, 126 or 125 for the message of a container that could not be started."""
    if message.startswith("exec"):
        if "executable file not found" in message or "no such file or directory" in message:
            return NOT_FOUND
        return CANNOT_INVOKE
    return CANNOT_RUN


def _how(terminated: ContainerStateTerminated) -> str:
    if terminated.reason == "StartError":
        return f"could not be started: {terminated.message}"
    said = f": {terminated.message.strip().splitlines()[-1]}" if terminated.message.strip() else ""
    if terminated.reason == "OOMKilled":
        return f"was killed, for it used more memory than its limit (exit code {terminated.exit_code}){said}"
    if terminated.exit_code > 128 and terminated.reason == "Error":
        return f"was ended by signal {terminated.exit_code - 128} (exit code {terminated.exit_code}){said}"
    return f"failed with exit code {terminated.exit_code}{said}"
