"""Probes and lifecycle hooks, and the actions that both are made of (core/v1).

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from podlite.api.base import Object, null

if TYPE_CHECKING:
    from podlite.api.base import Int32, IntOrString


class ExecAction(Object):
    command: list[str] = []


class HTTPHeader(Object):
    name: str = field(default_factory=str)
    value: str = field(default_factory=str)


class HTTPGetAction(Object):
    path: str = ""
    port: IntOrString = field(default_factory=int)
    host: str = ""
    scheme: str = ""
    http_headers: list[HTTPHeader] = []


class TCPSocketAction(Object):
    port: IntOrString = field(default_factory=int)
    host: str = ""


class GRPCAction(Object):
    port: Int32 = field(default_factory=int)
    service: str | None = field(default_factory=null)


class SleepAction(Object):
    seconds: int = field(default_factory=int)


class Probe(Object):
    """Exactly one of exec, http_get, tcp_socket and grpc; all times are whole seconds."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: Int32 = 0
    timeout_seconds: Int32 = 0
    period_seconds: Int32 = 0
    success_threshold: Int32 = 0
    failure_threshold: Int32 = 0
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(Object):
    """Exactly one of exec, http_get, tcp_socket and sleep."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Object):
    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None
