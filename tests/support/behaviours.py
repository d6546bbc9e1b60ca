"""Behaviours of the kubelet as rows of a table: a manifest, and what a cluster's status, logs and events would say.

Each row is run on real namespaces with real containers. The manifest goes the way of `podlite run`: read, defaulted,
validated and held against the table of fields, so a row also shows that its fields may be used. What is expected is
taken from the source that the row names, never from podlite.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import anyio

from podlite.api import encode
from podlite.api.manifest import Manifests, load_manifests
from podlite.api.pod import Pod
from podlite.kubelet.kubelet import Kubelet
from podlite.kubelet.read_logs import LogOptions
from podlite.kubelet.types import KubeletError
from tests.support.containers import HOST_IMAGE

SECONDS = 60


class Behaviour(NamedTuple):
    """One row. `source` says where it is written that it has to be so.

    `manifest` is YAML; of a Pod its `spec` is enough (see `load`). Without `until` the pod's end is
    waited for. `status`, and `until`, are paths in the Pod with the values that are expected there: `phase`,
    `containerStatuses[c].state.terminated.reason`, `conditions[Ready].status`; `...` stands for anything but nothing.
    `logs` are regular expressions that a container's whole log matches; `events` are lines `Type Reason Message`,
    each of which is to be among the pod's. `absent` are reasons that no event has.
    """

    name: str
    source: str
    manifest: str
    status: dict[str, Any] = {}
    until: dict[str, Any] = {}
    logs: dict[str, str] = {}
    events: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def load(text: str, name: str = "web") -> Manifests:
    """The objects of a row: one Pod, and what it refers to. `{c: a, …}` is a container `a` of the host's image."""
    if not re.search(r"^kind:", text, re.MULTILINE):
        text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{_indented(text)}"
    return load_manifests([("behaviour", _with_images(text))])


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def _with_images(text: str) -> str:
    return re.sub(r"\{c: ([a-z0-9]+)", rf"{{name: \1, image: {HOST_IMAGE!r}", text)


async def check(kubelet: Kubelet, row: Behaviour) -> Pod:
    """Runs a row; the pod is left as it is in the end."""
    manifests = load(row.manifest)
    [pod] = manifests.pods
    added = await kubelet.add_pod(pod, [*manifests.config_maps, *manifests.secrets])
    uid = added.metadata.uid
    pod = await (reached(kubelet, uid, row.until) if row.until else ended(kubelet, uid))
    plain = encode.to_builtins(pod)
    found = {path: look_up(plain["status"], path) for path in row.status}
    assert found == row.status, explain(kubelet, uid)
    for container, expected in row.logs.items():
        text = await log_of(kubelet, pod, container)
        assert re.fullmatch(expected, text, re.DOTALL), f"{container} said:\n{text}"
    await told(kubelet, uid, row.events)
    reasons = {each.reason for each in kubelet.events(uid)}
    assert not reasons & set(row.absent), event_lines(kubelet, uid)
    return pod


async def ended(kubelet: Kubelet, uid: str) -> Pod:
    """The pod once it is over."""
    with anyio.move_on_after(SECONDS):
        return await kubelet.wait_terminated(uid)
    raise AssertionError(f"the pod has not ended: {explain(kubelet, uid)}")


async def reached(kubelet: Kubelet, uid: str, wanted: dict[str, Any]) -> Pod:
    """The pod as soon as its status says all that."""
    with anyio.move_on_after(SECONDS), kubelet.watch(initial=True) as changes:
        async for change in changes:
            if change.pod.metadata.uid == uid:
                status = encode.to_builtins(change.pod)["status"]
                if all(_fits(look_up(status, path), value) for path, value in wanted.items()):
                    return change.pod
    raise AssertionError(f"the pod has not come to {wanted}: {explain(kubelet, uid)}")


async def told(kubelet: Kubelet, uid: str, wanted: Iterable[str]) -> None:
    """Returns when each of these lines is among the pod's events."""
    missing = list(wanted)
    with anyio.move_on_after(SECONDS), kubelet.watch_events() as events:
        while True:
            lines = event_lines(kubelet, uid)
            missing = [line for line in missing if not any(re.fullmatch(line, each, re.DOTALL) for each in lines)]
            if not missing:
                return
            await anext(aiter(events))
    raise AssertionError(f"{missing} are not among {event_lines(kubelet, uid)}")


def _fits(found: Any, wanted: Any) -> bool:
    return found not in (None, "", [], {}) if wanted is ... else bool(found == wanted)


def explain(kubelet: Kubelet, uid: str) -> str:
    """What is known of a pod, for whoever reads a failure."""
    status = encode.dump_yaml(encode.to_builtins(kubelet.pod(uid))["status"])
    return "\n".join([status, *event_lines(kubelet, uid)])


def event_lines(kubelet: Kubelet, uid: str) -> list[str]:
    return [f"{each.type} {each.reason} {each.message}" for each in kubelet.events(uid)]


async def log_of(kubelet: Kubelet, pod: Pod, container: str, *, previous: bool = False) -> str:
    """A container's whole log, as text. One that was never started has none."""
    outputs = kubelet.streams.logs(pod, container, LogOptions(), previous=previous)
    try:
        return b"".join([each.data async for each in outputs]).decode(errors="replace")
    except KubeletError as error:
        return f"no log: {error}"


_PART = re.compile(r"([A-Za-z]+)(?:\[([^\]]+)\])?")


def look_up(value: Any, path: str) -> Any:
    """What is at a path, None if nothing is; `[x]` picks the element of a list by its name or type, or its index."""
    for part in path.split("."):
        matched = _PART.fullmatch(part)
        assert matched, f"{path!r} is no path"
        value = value.get(matched[1]) if isinstance(value, dict) else None
        if matched[2] is not None:
            value = _element(value or [], matched[2])
    return value


def _element(values: list[Any], key: str) -> Any:
    if key.isdecimal():
        return values[int(key)] if int(key) < len(values) else None
    return next((each for each in values if key in (each.get("name"), each.get("type"))), None)
