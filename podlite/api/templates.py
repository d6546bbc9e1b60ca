"""The pods that a workload's template makes.

Source for names, labels and host names: pkg/controller/statefulset/stateful_set_utils.go and
pkg/controller/job/indexed_job_utils.go, Kubernetes 1.36; the random part of names is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from podlite.api.defaults import DEFAULT_NAMESPACE, set_pod_defaults, set_template_defaults
from podlite.api.fields import used_fields
from podlite.api.pod import Pod
from podlite.api.problems import FORBIDDEN, INVALID, Problem
from podlite.api.validation.pod import validate_pod
from podlite.api.validation.workloads import validate_job, validate_workload
from podlite.api.workloads import Job, StatefulSet

if TYPE_CHECKING:
    from podlite.api.meta import ObjectMeta
    from podlite.api.pod import PodTemplateSpec

MAX_PODS = 1000
"""How many pods one workload may make; more is taken for a mistake."""

_INDEX = "batch.kubernetes.io/job-completion-index"
# what decides about the pods; the rest of a workload's spec has no effect here
_EFFECTIVE = frozenset(("replicas", "selector", "template", "service_name", "ordinals", "volume_claim_templates"))
_EFFECTIVE |= {"parallelism", "completions", "completion_mode", "suspend"}


class Made:
    """What came of a workload."""

    __slots__ = ("pods", "problems", "warnings")

    def __init__(self) -> None:
        self.pods: list[Pod] = []
        self.problems: list[Problem] = []
        self.warnings: list[str] = []


def read_workload(workload: Any) -> Made:
    """Defaults and validates a Deployment, ReplicaSet, StatefulSet, DaemonSet or Job, and makes its first pods."""
    made = Made()
    workload.metadata.namespace = workload.metadata.namespace or DEFAULT_NAMESPACE
    set_template_defaults(workload.spec.template.spec)
    if isinstance(workload, Job):
        _set_job_defaults(workload)
    made.problems = validate_job(workload) if isinstance(workload, Job) else validate_workload(workload)
    ordinals = _ordinals(workload)
    if len(ordinals) > MAX_PODS:
        field = "spec.completions" if isinstance(workload, Job) else "spec.replicas"
        detail = f"podlite makes at most {MAX_PODS} pods of one {workload.kind}"
        made.problems.append(Problem(field, f"Invalid value: {len(ordinals)}: {detail}", INVALID))
        ordinals = range(1)
    template = workload.spec.template
    for ordinal in ordinals or range(1):
        made.pods.append(_pod(workload, template, ordinal))
    # the pods differ only in what podlite adds, so one stands for all
    _check(made.pods[0], workload, made)
    if not ordinals:
        made.pods = []
    _warn(workload, len(ordinals), made)
    return made


def _check(pod: Pod, workload: Any, made: Made) -> None:
    """What the template's own validation cannot see: the pod's name, and the fields podlite refuses."""
    known = {problem.path for problem in made.problems}
    if "metadata.name" not in known:
        for problem in validate_pod(pod):
            if problem.path in ("metadata.name", "spec.hostname", "spec.subdomain"):
                made.problems.append(Problem("metadata.name", problem.message, problem.reason))
                break
    refused, idle = used_fields(pod)
    made.warnings += idle
    for problem in refused:
        made.problems.append(Problem(f"spec.template.{problem.path}", problem.message, problem.reason))
    if isinstance(workload, StatefulSet) and workload.spec.volume_claim_templates:
        message = "Forbidden: not supported by podlite yet"
        made.problems.append(Problem("spec.volumeClaimTemplates", message, FORBIDDEN))


def _set_job_defaults(job: Job) -> None:
    spec = job.spec
    if spec.completions is None and spec.parallelism is None:
        spec.completions = 1
    if spec.parallelism is None:
        spec.parallelism = 1
    if not job.metadata.labels:
        job.metadata.labels = dict(spec.template.metadata.labels)


def _ordinals(workload: Any) -> range:
    spec = workload.spec
    if isinstance(workload, Job):
        if spec.suspend:
            return range(0)
        count = spec.parallelism if spec.completions is None else min(spec.parallelism, spec.completions)
        return range(max(count, 0))
    replicas = getattr(spec, "replicas", None)
    count = 1 if replicas is None else max(replicas, 0)
    ordinals = getattr(spec, "ordinals", None)
    start = ordinals.start if ordinals is not None else 0
    return range(start, start + count)


def _pod(workload: Any, template: PodTemplateSpec, ordinal: int) -> Pod:
    meta: ObjectMeta = _copy(template.metadata)
    meta.name = f"{workload.metadata.name}-{ordinal}" if workload.metadata.name else ""
    meta.generate_name = f"{workload.metadata.name or workload.metadata.generate_name}-"
    meta.namespace = workload.metadata.namespace
    pod = Pod(metadata=meta, spec=_copy(template.spec))
    if isinstance(workload, StatefulSet):
        pod.spec.hostname = meta.name
        pod.spec.subdomain = workload.spec.service_name
        meta.labels["statefulset.kubernetes.io/pod-name"] = meta.name
        meta.labels["apps.kubernetes.io/pod-index"] = str(ordinal)
    elif isinstance(workload, Job):
        meta.labels["batch.kubernetes.io/job-name"] = workload.metadata.name
        meta.labels["job-name"] = workload.metadata.name
        if workload.spec.completion_mode == "Indexed":
            _index(pod, ordinal)
    set_pod_defaults(pod)
    return pod


def _index(pod: Pod, index: int) -> None:
    """Tells the pod of an Indexed job its index, in the ways in which the controller does."""
    from podlite.api.container import EnvVar

    pod.metadata.annotations[_INDEX] = pod.metadata.labels[_INDEX] = str(index)
    pod.spec.hostname = pod.metadata.name
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        if not any(variable.name == "JOB_COMPLETION_INDEX" for variable in container.env):
            container.env.append(EnvVar(name="JOB_COMPLETION_INDEX", value=str(index)))


def _copy(value: Any) -> Any:
    """A copy that shares nothing with the original."""
    if isinstance(value, msgspec.Struct):
        return type(value)(**{name: _copy(getattr(value, name)) for name in value.__struct_fields__})
    if isinstance(value, list):
        return [_copy(each) for each in value]
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    return value


def _warn(workload: Any, count: int, made: Made) -> None:
    kind, name, spec = workload.kind, workload.metadata.name, workload.spec
    if not count:
        made.warnings.append(f'{kind} "{name}" asks for no pods, so none is run.')
    if isinstance(workload, Job) and (spec.completions or 0) > count > 0:
        made.warnings.append(
            f'Job "{name}" wants {spec.completions} completions; '
            f"only the {count} that may run at once are run, and no more when they end."
        )
    idle = []
    for attribute, wire in zip(spec.__struct_fields__, spec.__struct_encode_fields__, strict=True):
        if attribute not in _EFFECTIVE and getattr(spec, attribute) != getattr(type(spec)(), attribute):
            idle.append(f"spec.{wire}")
    if idle:
        verb = "has" if len(idle) == 1 else "have"
        made.warnings.append(f'{kind} "{name}": only its pods are run; {", ".join(idle)} {verb} no effect here.')
