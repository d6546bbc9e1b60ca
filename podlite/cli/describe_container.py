"""The containers of a pod, in the words and order of `kubectl describe pod`. Pure.

Source: describeContainers in k8s.io/kubectl/pkg/describe/describe.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.gotext import quote
from podlite.kubelet.types import KubeletError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.api.container import Container, EnvVar, EphemeralContainer, ResourceRequirements
    from podlite.api.pod import Pod
    from podlite.api.probes import Probe
    from podlite.api.status import ContainerState, ContainerStatus
    from podlite.cli.describe_text import Text

    AnyContainer = Container | EphemeralContainer


def describe_containers(
    text: Text, label: str, pod: Pod, containers: Sequence[AnyContainer], statuses: Sequence[ContainerStatus]
) -> None:
    """One section with all of them."""
    text.line(0, f"{label}:")
    by_name = {each.name: each for each in statuses}
    for container in containers:
        status = by_name.get(container.name)
        _basics(text, container, status)
        _words(text, "Command:", container.command)
        _words(text, "Args:", container.args)
        if status is not None:
            _state(text, "State:", status.state)
            if status.last_state.terminated is not None:
                _state(text, "Last State:", status.last_state)
            text.line(2, "Ready:", str(status.ready))
            text.line(2, "Restart Count:", str(status.restart_count))
        _resources(text, container.resources)
        for title, probe in (
            ("Liveness:", container.liveness_probe),
            ("Readiness:", container.readiness_probe),
            ("Startup:", container.startup_probe),
        ):
            if probe is not None:
                text.line(2, title, describe_probe(probe))
        _environment(text, pod, container)
        _mounts(text, container)


def _basics(text: Text, container: AnyContainer, status: ContainerStatus | None) -> None:
    text.line(1, f"{container.name}:")
    if status is not None:
        text.line(2, "Container ID:", status.container_id)
    text.line(2, "Image:", container.image)
    if status is not None:
        text.line(2, "Image ID:", status.image_id)
    for title, numbers in (
        ("Port", [each.container_port for each in container.ports]),
        ("Host Port", [each.host_port for each in container.ports]),
    ):
        said = [
            f"{number}/{port.protocol}" + (f" ({port.name})" if port.name else "")
            for number, port in zip(numbers, container.ports, strict=True)
        ]
        text.line(2, f"{title}s:" if len(said) > 1 else f"{title}:", ", ".join(said) or "<none>")
    profile = container.security_context.seccomp_profile if container.security_context is not None else None
    if profile is not None:
        text.line(2, "SeccompProfile:", profile.type)
        if profile.type == "Localhost":
            text.line(3, "LocalhostProfile:", profile.localhost_profile or "")


def _words(text: Text, title: str, words: Sequence[str]) -> None:
    if words:
        text.line(2, title)
    for word in words:
        for line in word.split("\n"):
            text.line(3, line)


def _state(text: Text, title: str, state: ContainerState) -> None:
    from podlite.cli.describe_pod import rfc1123

    if state.running is not None:
        text.line(2, title, "Running")
        text.line(3, "Started:", rfc1123(state.running.started_at or ""))
    elif state.terminated is not None:
        ended = state.terminated
        text.line(2, title, "Terminated")
        if ended.reason:
            text.line(3, "Reason:", ended.reason)
        if ended.message:
            # A line break ends the columns, there as here.
            first, *others = ended.message.split("\n")
            text.line(3, "Message:", first)
            for line in others:
                text.line(0, line)
        text.line(3, "Exit Code:", str(ended.exit_code))
        if ended.signal > 0:
            text.line(3, "Signal:", str(ended.signal))
        for name, at in (("Started:", ended.started_at), ("Finished:", ended.finished_at)):
            text.line(3, name, rfc1123(at) if at else "<unknown>")
    else:
        text.line(2, title, "Waiting")
        if state.waiting is not None and state.waiting.reason:
            text.line(3, "Reason:", state.waiting.reason)


def _resources(text: Text, resources: ResourceRequirements) -> None:
    for title, amounts in (("Limits:", resources.limits), ("Requests:", resources.requests)):
        if amounts:
            text.line(2, title)
        for name in sorted(amounts):
            text.line(3, f"{name}:", amounts[name])


def describe_probe(probe: Probe) -> str:
    """`http-get http://:8080/healthz delay=0s timeout=1s period=10s #success=1 #failure=3`."""
    timing = (
        f"delay={probe.initial_delay_seconds}s timeout={probe.timeout_seconds}s period={probe.period_seconds}s "
        f"#success={probe.success_threshold} #failure={probe.failure_threshold}"
    )
    if probe.exec is not None:
        return f"exec [{' '.join(probe.exec.command)}] {timing}"
    if probe.http_get is not None:
        action = probe.http_get
        host = f"[{action.host}]" if ":" in action.host else action.host
        slash = "" if action.path.startswith("/") or not action.path else "/"
        return f"http-get {action.scheme.lower()}://{host}:{action.port}{slash}{action.path} {timing}"
    if probe.tcp_socket is not None:
        return f"tcp-socket {probe.tcp_socket.host}:{probe.tcp_socket.port} {timing}"
    if probe.grpc is not None:
        return f"grpc <pod>:{probe.grpc.port} {probe.grpc.service or ''} {timing}"
    return f"unknown {timing}"


def _environment(text: Text, pod: Pod, container: AnyContainer) -> None:
    if container.env_from:
        text.line(2, "Environment Variables from:")
    for source in container.env_from:
        kind, found = ("ConfigMap", source.config_map_ref) if source.config_map_ref else ("Secret", source.secret_ref)
        if found is not None:
            prefix = f" with prefix '{source.prefix}'" if source.prefix else ""
            text.line(3, found.name, f"{kind}{prefix}", f"Optional: {_bool(found.optional)}")
    text.line(2, "Environment:", *([] if container.env else ["<none>"]))
    for variable in container.env:
        _variable(text, pod, container, variable)


def _variable(text: Text, pod: Pod, container: AnyContainer, variable: EnvVar) -> None:
    name, source = f"{variable.name}:", variable.value_from
    if source is None:
        for line in (variable.value or "").split("\n"):
            text.line(3, name, line)
            name = ""
    elif source.field_ref is not None:
        path = source.field_ref.field_path
        text.line(3, name, f"{_field(pod, path)} ({source.field_ref.api_version}:{path})")
    elif source.resource_field_ref is not None:
        from podlite.kubelet.field_refs import resource_value

        reference = source.resource_field_ref
        try:
            value = resource_value(reference, pod, container, {})
        except KubeletError:
            value = ""
        if value == "0" and reference.resource in ("limits.cpu", "limits.memory"):
            value = "node allocatable"
        text.line(3, name, f"{value} ({reference.resource})")
    elif source.secret_key_ref is not None:
        secret = source.secret_key_ref
        said = f"<set to the key '{secret.key}' in secret '{secret.name}'>"
        text.line(3, name, said, f"Optional: {_bool(secret.optional)}")
    elif source.config_map_key_ref is not None:
        config_map = source.config_map_key_ref
        said = f"<set to the key '{config_map.key}' of config map '{config_map.name}'>"
        text.line(3, name, said, f"Optional: {_bool(config_map.optional)}")


def _field(pod: Pod, path: str) -> str:
    """What kubectl can say of a field without asking the node."""
    from podlite.kubelet.field_refs import field_value

    elsewhere = {
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.hostIP": pod.status.host_ip,
        "status.hostIPs": ",".join([each.ip for each in pod.status.host_ips]),
        "status.podIP": pod.status.pod_ip,
        "status.podIPs": ",".join([each.ip for each in pod.status.pod_ips]),
    }
    if path in elsewhere:
        return elsewhere[path]
    try:
        return field_value(pod, path)
    except KubeletError:
        return ""


def _bool(value: bool | None) -> str:
    return "true" if value else "false"


def _mounts(text: Text, container: AnyContainer) -> None:
    text.line(2, "Mounts:", *([] if container.volume_mounts else ["<none>"]))
    for mount in sorted(container.volume_mounts, key=lambda each: each.mount_path):
        flags = "ro" if mount.read_only else "rw"
        if mount.sub_path:
            flags += f",path={quote(mount.sub_path)}"
        text.line(3, f"{mount.mount_path} from {mount.name} ({flags})")
