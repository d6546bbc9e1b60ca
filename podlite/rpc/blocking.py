"""The few calls of another CRI runtime that are made without an event loop: looks, and the removal of sandboxes."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from podlite.cri.errors import NotFoundError
from podlite.rpc.codes import cri_error, no_answer
from podlite.rpc.wire import runtime_pb2 as wire

# A runtime answers at once; its ending of what does not want to end takes it longer.
_LOOK_SECONDS = 10.0
_REMOVE_SECONDS = 60.0


class BlockingRuntime:
    """A connection to the runtime at `endpoint`, a socket's path or `unix:///path`; a context manager.

    The methods block. They raise CRIError; UnavailableError where nobody answers, at once or after the times above.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint if endpoint.startswith("unix:") else f"unix://{endpoint}"
        self._channel = grpc.insecure_channel(self.endpoint)
        self._service = wire.DESCRIPTOR.services_by_name["RuntimeService"]

    def sandboxes(self, labels: dict[str, str]) -> list[str]:
        """The ids of the sandboxes that have these labels."""
        request = wire.ListPodSandboxRequest(filter={"label_selector": labels})
        return [each.id for each in self._call("ListPodSandbox", request, _LOOK_SECONDS).items]

    def remove_sandbox(self, id: str) -> None:
        """Ends a sandbox with its containers, and removes them; idempotent."""
        for name, request in (
            ("StopPodSandbox", wire.StopPodSandboxRequest(pod_sandbox_id=id)),
            ("RemovePodSandbox", wire.RemovePodSandboxRequest(pod_sandbox_id=id)),
        ):
            try:
                self._call(name, request, _REMOVE_SECONDS)
            except NotFoundError:
                pass

    def container_pid(self, id: str) -> int:
        """The process id of a running container's first process; 0 if it does not run, or the runtime does not say.

        It is in the verbose part of the status, where containerd, CRI-O and podlite have it alike.
        """
        answer = self._call(
            "ContainerStatus", wire.ContainerStatusRequest(container_id=id, verbose=True), _LOOK_SECONDS
        )
        if answer.status.state != wire.CONTAINER_RUNNING:
            return 0
        try:
            pid = json.loads(answer.info["info"])["pid"]
        except (KeyError, TypeError, ValueError):
            return 0
        return pid if isinstance(pid, int) else 0

    def _call(self, name: str, request: Any, timeout: float) -> Any:
        method = self._service.methods_by_name[name]
        call = self._channel.unary_unary(
            f"/{self._service.full_name}/{name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        try:
            return call(request, timeout=timeout)
        except grpc.RpcError as error:
            code, details = error.code(), str(error.details() or "")
            if code == grpc.StatusCode.UNAVAILABLE:
                raise no_answer(self.endpoint, details) from None
            raise cri_error(code, details) from None

    def __enter__(self) -> BlockingRuntime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.close()
