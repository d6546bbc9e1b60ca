"""Visits to the shims of pods that other processes run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.agent.pod_socket import NoShimError, connect, sandbox_directories
from podlite.errors import PodliteError

if TYPE_CHECKING:
    from typing import Any

    from podlite.kubelet.written_pods import WrittenPod

__all__ = ["NoShimError", "Visit", "running_container", "sandbox_directories"]

# A shim answers at once, if it answers at all.
ANSWER_SECONDS = 10.0


class Visit:
    """Requests to a shim without an event loop, as a context manager. Blocking."""

    def __init__(self, found: WrittenPod) -> None:
        """Raises NoShimError."""
        self._name = f"{found.pod.metadata.namespace}/{found.pod.metadata.name}"
        self._sock = connect(found)
        self._sock.settimeout(ANSWER_SECONDS)

    def ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """(answer, its descriptors). Raises PodliteError."""
        from podlite.runtime import channel  # sets the codec
        from podlite.runtime.shim import protocol

        try:
            protocol.send(self._sock, {**message, "id": 1})
            received = protocol.receive(self._sock)
        except (OSError, protocol.ProtocolError) as error:
            raise PodliteError(f"the shim of pod {self._name} does not answer: {error}") from error
        if received is None:
            raise PodliteError(f"the shim of pod {self._name} has ended")
        answer, fds = received
        if answer["m"] == "failed":
            raise PodliteError(f"pod {self._name}: {channel.failure_text(answer)}")
        return answer, fds

    def running(self) -> dict[str, int]:
        """The containers that run: id → process id of the first process. Raises PodliteError."""
        answer, _ = self.ask({"m": "status"})
        return {each["container"]: each["pid"] for each in answer["containers"] if each["state"] == "running"}

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *error: object) -> None:
        self._sock.close()


def running_container(found: WrittenPod, name: str) -> str:
    """The id of a container that runs, by the pod's status. Raises PodliteError with the reason where it does not."""
    from podlite.kubelet.instance_end import bare_id
    from podlite.kubelet.log_source import find_status

    pod = found.pod
    if pod.status.phase in ("Succeeded", "Failed"):
        hint = "`podlite nsenter --mnt` looks into what it left" if found.kept else ""
        text = f"cannot exec into a container in a completed pod; current phase is {pod.status.phase}"
        raise PodliteError(text, hint=hint)
    if found.orphaned:
        raise PodliteError(
            f"the podlite that ran pod {pod.metadata.namespace}/{pod.metadata.name} has been killed",
            hint="`podlite prune` removes what is left of it",
        )
    status = find_status(pod, name)
    state = status.state if status is not None else None
    if status is None or state is None or state.running is None:
        why = "it has not been started yet"
        if state is not None and state.terminated is not None:
            why = f"it has ended: {state.terminated.reason}, exit code {state.terminated.exit_code}"
        elif state is not None and state.waiting is not None and state.waiting.reason:
            why = f"it waits: {state.waiting.reason}"
        raise PodliteError(f"container {name} of pod {pod.metadata.name} is not running: {why}")
    return bare_id(status.container_id)
