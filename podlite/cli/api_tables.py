"""Tables of API objects with kubectl's columns. Pure.

Source: pkg/printers/internalversion/printers.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podlite.api.decode import from_builtins
from podlite.cli.pod_table import NONE, UNKNOWN, age, columns, human_duration
from podlite.kubelet.gotime import NANOSECONDS, parse_rfc3339

if TYPE_CHECKING:
    from podlite.cli.api import Kind

Plain = dict[str, Any]

_HEADERS = {
    "Pod": ["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
    "Event": ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"],
    "ConfigMap": ["NAME", "DATA", "AGE"],
    "Secret": ["NAME", "TYPE", "DATA", "AGE"],
}
_WIDE = {
    "Pod": ["IP", "NODE", "NOMINATED NODE", "READINESS GATES"],
    "Event": ["SUBOBJECT", "SOURCE", "FIRST SEEN", "COUNT", "NAME"],
}


def header(kind: Kind, *, wide: bool, namespaces: bool, labels: bool) -> list[str]:
    """The first line."""
    found = list(_HEADERS[kind.kind])
    if wide and kind.kind == "Event":
        found = [*found[:4], *_WIDE["Event"][:2], found[4], *_WIDE["Event"][2:]]
    elif wide:
        found += _WIDE.get(kind.kind, [])
    return [*(["NAMESPACE"] if namespaces else []), *found, *(["LABELS"] if labels else [])]


def row(kind: Kind, value: Plain, now_ns: int, *, wide: bool, namespaces: bool, labels: bool) -> list[str]:
    """One object's line."""
    meta = value["metadata"]
    cells = {"Pod": _pod, "Event": _event, "ConfigMap": _config_map, "Secret": _secret}[kind.kind](value, now_ns, wide)
    shown = ",".join(f"{key}={text}" for key, text in sorted(meta.get("labels", {}).items())) or NONE
    return [*([meta.get("namespace", "")] if namespaces else []), *cells, *([shown] if labels else [])]


def _pod(value: Plain, now_ns: int, wide: bool) -> list[str]:
    from podlite.api.pod import Pod

    pod = from_builtins(value, Pod)
    found = columns(pod, now_ns)
    cells = [pod.metadata.name, found.ready, found.status, found.restarts, found.age]
    if wide:
        gates = NONE
        if pod.spec.readiness_gates:
            types = {each.condition_type for each in pod.spec.readiness_gates}
            true = sum(each.type in types and each.status == "True" for each in pod.status.conditions)
            gates = f"{true}/{len(pod.spec.readiness_gates)}"
        node = pod.spec.node_name or NONE
        cells += [pod.status.pod_ip or NONE, node, pod.status.nominated_node_name or NONE, gates]
    return cells


def _event(value: Plain, now_ns: int, wide: bool) -> list[str]:
    about = value["involvedObject"]
    count = value.get("count", 0)
    last = _since(value.get("lastTimestamp") or value.get("eventTime"), now_ns)
    first = _since(value.get("firstTimestamp") or value.get("eventTime"), now_ns)
    seen = f"{last} (x{count} over {first})" if count > 1 else last
    kind = about.get("kind", "").lower()
    target = f"{kind}/{about['name']}" if kind and about.get("name") else ""
    message = value.get("message", "").strip()
    cells = [last if wide else seen, value.get("type", ""), value.get("reason", ""), target, message]
    if wide:
        source = value.get("source", {})
        where = ", ".join(each for each in (source.get("component", ""), source.get("host", "")) if each)
        cells = [*cells[:4], about.get("fieldPath", ""), where, message, first, str(count), value["metadata"]["name"]]
    return cells


def _since(time: str | None, now_ns: int) -> str:
    if not time:
        return UNKNOWN
    return human_duration((now_ns - parse_rfc3339(time)) // NANOSECONDS)


def _config_map(value: Plain, now_ns: int, wide: bool) -> list[str]:
    count = len(value.get("data", {})) + len(value.get("binaryData", {}))
    return [value["metadata"]["name"], str(count), age(value["metadata"].get("creationTimestamp"), now_ns)]


def _secret(value: Plain, now_ns: int, wide: bool) -> list[str]:
    meta = value["metadata"]
    created = age(meta.get("creationTimestamp"), now_ns)
    return [meta["name"], value.get("type", ""), str(len(value.get("data", {}))), created]
