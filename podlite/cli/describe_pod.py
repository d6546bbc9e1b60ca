"""A pod, its containers, volumes and events, in the words and order of `kubectl describe pod`. Pure.

Source: describePod in k8s.io/kubectl/pkg/describe/describe.go, Kubernetes 1.36.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from podlite.agent.printers.duration import age
from podlite.cli.describe_container import describe_containers
from podlite.cli.describe_text import Text
from podlite.cli.describe_volume import describe_volume
from podlite.kubelet.qos import pod_qos

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podlite.api.events import Event
    from podlite.api.pod import Pod

_MAX_ANNOTATION = 140
_HIDDEN_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration",)
_ENDED = ("Succeeded", "Failed")


def describe_pod(pod: Pod, events: Iterable[Event], now_ns: int) -> str:
    """The whole text; ages are those at `now_ns`, and times are in this machine's time zone."""
    text = Text()
    _head(text, pod, now_ns)
    spec, status = pod.spec, pod.status
    if spec.init_containers:
        describe_containers(text, "Init Containers", pod, spec.init_containers, status.init_container_statuses)
    describe_containers(text, "Containers", pod, spec.containers, status.container_statuses)
    if spec.ephemeral_containers:
        debuggers, statuses = spec.ephemeral_containers, status.ephemeral_container_statuses
        describe_containers(text, "Ephemeral Containers", pod, debuggers, statuses)
    _conditions(text, pod)
    if spec.volumes:
        text.line(0, "Volumes:")
        for volume in spec.volumes:
            describe_volume(text, volume)
    else:
        text.line(0, "Volumes:", "<none>")
    text.line(0, "QoS Class:", pod_qos(pod))
    _pairs(text, "Node-Selectors", spec.node_selector)
    _tolerations(text, pod)
    _events(text, list(events), now_ns)
    return str(text)


def _head(text: Text, pod: Pod, now_ns: int) -> None:
    meta, spec, status = pod.metadata, pod.spec, pod.status
    text.line(0, "Name:", meta.name)
    text.line(0, "Namespace:", meta.namespace)
    if spec.priority is not None:
        text.line(0, "Priority:", str(spec.priority))
    if spec.priority_class_name:
        text.line(0, "Priority Class Name:", spec.priority_class_name)
    if spec.runtime_class_name:
        text.line(0, "Runtime Class Name:", spec.runtime_class_name)
    if spec.service_account_name:
        text.line(0, "Service Account:", spec.service_account_name)
    text.line(0, "Node:", f"{spec.node_name}/{status.host_ip}" if spec.node_name else "<none>")
    if status.start_time is not None:
        text.line(0, "Start Time:", rfc1123(status.start_time))
    _pairs(text, "Labels", meta.labels)
    _annotations(text, meta.annotations)
    if meta.deletion_timestamp is not None and status.phase not in _ENDED:
        text.line(0, "Status:", f"Terminating (lasts {age(meta.deletion_timestamp, now_ns)})")
        text.line(0, "Termination Grace Period:", f"{meta.deletion_grace_period_seconds}s")
    else:
        text.line(0, "Status:", status.phase)
    if status.reason:
        text.line(0, "Reason:", status.reason)
    if status.message:
        text.line(0, "Message:", status.message)
    profile = spec.security_context.seccomp_profile if spec.security_context is not None else None
    if profile is not None:
        text.line(0, "SeccompProfile:", profile.type)
        if profile.type == "Localhost":
            text.line(0, "LocalhostProfile:", profile.localhost_profile or "")
    text.line(0, "IP:", status.pod_ip)
    if status.pod_ips:
        text.line(0, "IPs:")
        for each in status.pod_ips:
            text.line(1, "IP:", each.ip)
    else:
        text.line(0, "IPs:", "<none>")
    controller = next((each for each in meta.owner_references if each.controller), None)
    if controller is not None:
        text.line(0, "Controlled By:", f"{controller.kind}/{controller.name}")


def _conditions(text: Text, pod: Pod) -> None:
    found = {each.type: each.status for each in pod.status.conditions}
    if pod.spec.readiness_gates:
        text.line(0, "Readiness Gates:")
        text.line(1, "Type", "Status")
        for gate in pod.spec.readiness_gates:
            text.line(1, f"{gate.condition_type} ", f"{found.get(gate.condition_type, '<none>')} ")
    if found:
        text.line(0, "Conditions:")
        text.line(1, "Type", "Status")
        for type, status in found.items():
            text.line(1, f"{type} ", f"{status} ")


def _pairs(text: Text, title: str, values: Mapping[str, str]) -> None:
    head = f"{title}:"
    for key in sorted(values):
        text.line(0, head, f"{key}={values[key]}")
        head = ""
    if not values:
        text.line(0, head, "<none>")


def _annotations(text: Text, values: Mapping[str, str]) -> None:
    head = "Annotations:"
    for key in sorted(values):
        if key in _HIDDEN_ANNOTATIONS:
            continue
        value = values[key].removesuffix("\n")
        if len(value) + len(key) + 2 > _MAX_ANNOTATION or "\n" in value:
            text.line(0, head, f"{key}:")
            for line in value.split("\n"):
                text.line(0, "", f"  {_shortened(line)}")
        else:
            text.line(0, head, f"{key}: {value}")
        head = ""
    if head:
        text.line(0, head, "<none>")


def _shortened(line: str) -> str:
    most = _MAX_ANNOTATION - 2
    return line if len(line) <= most else f"{line[:most]}..."


def _tolerations(text: Text, pod: Pod) -> None:
    head = "Tolerations:"
    for each in sorted(pod.spec.tolerations, key=lambda toleration: toleration.key):
        said = each.key
        if each.value:
            said += f"={each.value}"
        if each.effect:
            said += f":{each.effect}"
        if each.operator == "Exists" and not each.value:
            said += " op=Exists" if said else "op=Exists"
        if each.toleration_seconds is not None:
            said += f" for {each.toleration_seconds}s"
        text.line(0, head, said)
        head = ""
    if head:
        text.line(0, head, "<none>")


def _events(text: Text, events: list[Event], now_ns: int) -> None:
    if not events:
        text.line(0, "Events:", "<none>")
        return
    text.flush()
    text.line(0, "Events:")
    text.line(1, "Type", "Reason", "Age", "From", "Message")
    text.line(1, "----", "------", "----", "----", "-------")
    for each in sorted(events, key=lambda event: event.last_timestamp or ""):
        first = age(each.first_timestamp, now_ns)
        interval = f"{age(each.last_timestamp, now_ns)} (x{each.count} over {first})" if each.count > 1 else first
        message = each.message.strip()
        if each.involved_object.field_path:
            message = f"{each.involved_object.field_path}: {message}"
        text.line(1, each.type, each.reason, interval, each.source.component or each.reporting_component, message)


def rfc1123(timestamp: str) -> str:
    """`Mon, 23 Nov 2026 20:00:00 +0000`, in this machine's time zone."""
    return datetime.fromisoformat(timestamp).astimezone().strftime("%a, %d %b %Y %H:%M:%S %z")
