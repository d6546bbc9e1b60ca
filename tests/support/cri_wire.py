"""A client on CRI's wire, with nothing of podlite's own client in it: gRPC stubs by the .proto, and requests."""

from __future__ import annotations

import os
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from podlite.rpc.wire import runtime_pb2 as wire
from podlite.runtime.layout import Layout

HOST_IMAGE = "podlite.local/host:1"


class Client:
    """`await client.Version(version="0.1.0")`: a call's request is made of keywords. Streams are returned as calls."""

    def __init__(self, path: str) -> None:
        self._channel = grpc.aio.insecure_channel(
            f"unix:{path}", options=(("grpc.max_receive_message_length", 16 << 20),)
        )
        self._methods: dict[str, Any] = {}
        for service in wire.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                request = GetMessageClass(method.input_type)
                make = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
                call = make(
                    f"/{service.full_name}/{method.name}",
                    request_serializer=request.SerializeToString,
                    response_deserializer=GetMessageClass(method.output_type).FromString,
                )
                self._methods[method.name] = (request, call)

    def __getattr__(self, name: str) -> Any:
        request, call = self._methods[name]

        def invoke(within: float | None = 60, **fields: Any) -> Any:
            return call(request(**fields), timeout=within)

        return invoke

    async def close(self) -> None:
        await self._channel.close()

    # --- requests as a kubelet makes them -----------------------------------------------------------

    async def sandbox(self, layout: Layout, name: str = "pod", **security: Any) -> tuple[str, Any]:
        """A sandbox that runs; (its id, its configuration)."""
        config = pod_config(layout, name, **security)
        return (await self.RunPodSandbox(config=config)).pod_sandbox_id, config

    async def container(self, sandbox: str, config: Any, command: list[str], **fields: Any) -> str:
        """A container that runs; its id."""
        made = container_config(command, **fields)
        answer = await self.CreateContainer(pod_sandbox_id=sandbox, config=made, sandbox_config=config)
        await self.StartContainer(container_id=answer.container_id)
        return str(answer.container_id)


def pod_config(layout: Layout, name: str = "pod", **security: Any) -> Any:
    uid = os.urandom(8).hex()
    return wire.PodSandboxConfig(
        metadata={"name": name, "uid": uid, "namespace": "conformance", "attempt": 1},
        hostname=name,
        log_directory=f"{layout.log_dir}/conformance_{name}_{uid}",
        labels={"app": name},
        annotations={"note": "an annotation"},
        linux={
            "cgroup_parent": f"{layout.cgroup_root}/pod{uid}",
            "security_context": {"namespace_options": {"pid": wire.CONTAINER}, **security},
        },
    )


def container_config(command: list[str], name: str = "main", **fields: Any) -> Any:
    linux = fields.pop("linux", {"security_context": {"namespace_options": {"pid": wire.CONTAINER}}})
    return wire.ContainerConfig(
        metadata={"name": name, "attempt": fields.pop("attempt", 0)},
        image={"image": fields.pop("image", HOST_IMAGE)},
        command=command,
        log_path=f"{name}.log",
        linux=linux,
        **fields,
    )
