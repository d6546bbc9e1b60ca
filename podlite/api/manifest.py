"""From the text of manifests to pods that can be run.

Every document is decoded, defaulted and validated, and every problem of all of them is reported at once,
each with its file, line and column. Pods are taken as they are; the pod template of a workload becomes the
pods that its controller would start first, named stably instead of randomly:

- Deployment, ReplicaSet: NAME-0 … NAME-(replicas-1)
- StatefulSet: NAME-ORDINAL for each replica from `ordinals.start`, with the host name, subdomain and labels that the
  controller sets
- DaemonSet: NAME-0, for this is one machine
- Job: NAME-0 … for as many pods as `parallelism` and `completions` let run at once; an Indexed job's have their
  completion index

Whatever else a workload says (how it is rolled out, scaled, retried, cleaned up) has no effect, and a warning says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podlite.api.decode import Decoder
from podlite.api.defaults import set_pod_defaults
from podlite.api.fields import used_fields
from podlite.api.pod import Pod
from podlite.api.problems import ManifestError, Problem
from podlite.api.validation.pod import validate_pod
from podlite.api.yaml_source import MAPPING, SEQUENCE, Node, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.api.base import Object
    from podlite.api.config import ConfigMap, Secret

# kind → apiVersion
_KINDS = {
    "Pod": "v1",
    "ConfigMap": "v1",
    "Secret": "v1",
    "List": "v1",
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
}


class Manifests:
    """What the manifests describe, in the order of the text. The pods have no uid yet: see `podlite.api.admission`."""

    __slots__ = ("config_maps", "pods", "secrets", "warnings")

    def __init__(self) -> None:
        self.pods: list[Pod] = []
        self.config_maps: list[ConfigMap] = []
        self.secrets: list[Secret] = []
        self.warnings: list[str] = []


def load_manifests(sources: Sequence[tuple[str, str | bytes]], *, validate: str = "strict") -> Manifests:
    """Reads manifests, given as (file name, text) pairs; the text is YAML or JSON, of any number of documents.

    `validate` says what becomes of fields that are unknown or given twice: `strict` makes them problems, `warn`
    warnings, `ignore` drops them. All problems are found before ManifestError is raised with them; sources without
    any object are one too.
    """
    reading = _Reading(validate)
    for file, text in sources:
        roots, problems = load(text, file)
        reading.problems += problems
        for root in roots:
            reading.document(root, file, "")
    if not reading.problems and not reading.found:
        names = ", ".join([file for file, _ in sources]) or "nothing"
        reading.problems.append(Problem("", f"There is no Kubernetes object in {names}."))
    if reading.problems:
        order = {file: index for index, (file, _) in enumerate(sources)}
        reading.problems.sort(key=lambda problem: (order.get(problem.file, -1), problem.line, problem.column))
        raise ManifestError(reading.problems)
    return reading.result


class _Reading:
    """One run of `load_manifests`."""

    def __init__(self, validate: str) -> None:
        self.validate = validate
        self.result = Manifests()
        self.problems: list[Problem] = []
        self.found = 0
        self.names: dict[tuple[str, str, str], tuple[str, Node]] = {}

    def document(self, node: Node, file: str, path: str) -> None:
        """One object, or a List of them; `path` is that of the object in its document."""
        kind = self.kind(node, file, path)
        if kind == "List":
            self.items(node, file, path)
        elif kind:
            self.found += 1
            self.object(kind, node, file, path)

    def kind(self, node: Node, file: str, path: str) -> str:
        """The object's kind if it is one that can be read here; otherwise reports why not, and is empty."""
        if node.kind != MAPPING:
            self.report(node, file, path, "this is no Kubernetes object, which is a mapping with apiVersion and kind")
            return ""
        kind_node, version_node = node.get("kind"), node.get("apiVersion")
        kind = kind_node.value if kind_node is not None else None
        version = version_node.value if version_node is not None else None
        for name, value in (("apiVersion", version), ("kind", kind)):
            if not isinstance(value, str) or not value:
                self.report(node.get(name) or node, file, path, f"{name} not set")
        if not isinstance(kind, str) or not isinstance(version, str) or not kind or not version:
            return ""
        known = _KINDS.get(kind)
        if known is None:
            self.report(kind_node or node, file, _join(path, "kind"), _unknown_kind(kind))
        elif known != version:
            message = f'no matches for kind "{kind}" in version "{version}"; it is in "{known}"'
            self.report(version_node or node, file, _join(path, "apiVersion"), message)
        else:
            return kind
        return ""

    def items(self, node: Node, file: str, path: str) -> None:
        items = node.get("items")
        if items is None or items.value is None:
            return
        if items.kind != SEQUENCE:
            self.report(items, file, _join(path, "items"), "Invalid value: must be a list")
            return
        for index, item in enumerate(items.value):
            self.document(item, file, _join(path, f"items[{index}]"))

    def object(self, kind: str, node: Node, file: str, path: str) -> None:
        decoder = Decoder(file, validate=self.validate)
        if kind == "Pod":
            pod = decoder.read(node, Pod, path)
            self.decoded(decoder)
            self.pod(pod, node, path, decoder)
        elif kind in ("ConfigMap", "Secret"):
            self.config(kind, node, path, decoder)
        else:
            self.workload(kind, node, path, decoder)

    def pod(self, pod: Pod, node: Node, path: str, decoder: Decoder) -> None:
        set_pod_defaults(pod)
        refused, idle = used_fields(pod)
        self.checked([*validate_pod(pod), *refused], node, path, decoder)
        self.result.warnings += [f"{decoder.file}:{node.line}:{node.column}: {text}" for text in idle]
        self.take(self.result.pods, pod, "Pod", node, path, decoder.file)

    def config(self, kind: str, node: Node, path: str, decoder: Decoder) -> None:
        from podlite.api.config import ConfigMap, Secret
        from podlite.api.defaults import DEFAULT_NAMESPACE, set_secret_defaults
        from podlite.api.validation.config import validate_config_map, validate_secret

        if kind == "ConfigMap":
            config_map = decoder.read(node, ConfigMap, path)
            self.decoded(decoder)
            config_map.metadata.namespace = config_map.metadata.namespace or DEFAULT_NAMESPACE
            self.checked(validate_config_map(config_map), node, path, decoder)
            self.take(self.result.config_maps, config_map, kind, node, path, decoder.file)
        else:
            secret = decoder.read(node, Secret, path)
            self.decoded(decoder)
            secret.metadata.namespace = secret.metadata.namespace or DEFAULT_NAMESPACE
            set_secret_defaults(secret)
            self.checked(validate_secret(secret), node, path, decoder)
            self.take(self.result.secrets, secret, kind, node, path, decoder.file)

    def workload(self, kind: str, node: Node, path: str, decoder: Decoder) -> None:
        from podlite.api.templates import read_workload

        workload = decoder.read(node, _type_of(kind), path)
        self.decoded(decoder)
        made = read_workload(workload)
        self.checked(made.problems, node, path, decoder)
        for text in made.warnings:
            self.result.warnings.append(f"{decoder.file}:{node.line}:{node.column}: {text}")
        for pod in made.pods:
            self.take(self.result.pods, pod, "Pod", node, path, decoder.file)

    def decoded(self, decoder: Decoder) -> None:
        self.problems += decoder.problems
        self.result.warnings += [str(warning) for warning in decoder.warnings]

    def checked(self, problems: list[Problem], node: Node, path: str, decoder: Decoder) -> None:
        """Adds what validation found, without what only follows from what decoding found."""
        if not problems:
            return
        from podlite.api.positions import placed

        spoilt = decoder.suggested.union([problem.path for problem in decoder.problems])
        for problem in problems:
            full = placed(problem, node, path, decoder.file)
            if spoilt.isdisjoint(_prefixes(full.path)):
                self.problems.append(full)

    def take(self, into: list[Any], found: Any, kind: str, node: Node, path: str, file: str) -> None:
        """Keeps an object whose name is not taken."""
        meta = found.metadata
        key = (kind, meta.namespace, meta.name)
        if meta.name and key in self.names:
            from podlite.api.positions import placed

            other_file, other = self.names[key]
            problem = Problem("metadata.name", f'Duplicate value: "{meta.name}"')
            at = placed(problem, node, path, file)
            message = f"{problem.message}: the {kind} in {other_file}:{other.line} has that name too"
            self.problems.append(Problem(at.path, message, "FieldValueDuplicate", file, at.line, at.column))
            return
        self.names[key] = (file, node)
        into.append(found)

    def report(self, node: Node, file: str, path: str, message: str) -> None:
        self.problems.append(Problem(path, message, file=file, line=node.line, column=node.column))


def _type_of(kind: str) -> type[Object]:
    from podlite.api import registry

    return registry.find(kind)


def _unknown_kind(kind: str) -> str:
    same = next((known for known in _KINDS if known.lower() == kind.lower()), "")
    if same:
        return f'podlite knows no kind "{kind}", did you mean "{same}"?'
    listed = ", ".join([known for known in _KINDS if known != "List"])
    return f'podlite does not run objects of kind "{kind}", only {listed} and List'


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _prefixes(path: str) -> list[str]:
    """The path and those of everything around its field."""
    return [path[:end] for end, letter in enumerate(path) if letter in ".["] + [path]
