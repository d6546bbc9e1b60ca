"""Which fields of a Pod podlite implements, which it accepts without acting on them, and which it refuses.

The one table is `_FIELDS`. A row holds for the field and for all fields below it that have no row of their
own; the fields of the types in `_EXPLICIT` inherit nothing, so that a new one cannot slip in. Types that occur
in several places have their rows where they occur first; init containers have those of containers.

To implement a field, change its row to IMPLEMENTED; to take it back, to a refusal.

A field counts as used when it has a value other than the API's default. Using a refused field is a problem
that names its path; nothing is ever ignored in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from podlite.api.base import Object
from podlite.api.decode import type_named
from podlite.api.problems import FORBIDDEN, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podlite.api.pod import Pod

IMPLEMENTED = "implemented"
ACCEPTED = "accepted"
REFUSED = "refused"

_NO_SCHEDULER = "accepted: there is no scheduler here, every pod runs on this machine"
_SERVER = "accepted: set when the pod is created, what the manifest says is replaced"
_NO_COLLECTOR = "accepted: kept and shown, but no controller or garbage collector acts on it here"
_NO_API_SERVER = "accepted: there is no API server here in which a pod could have an identity"
_NO_TOKENS = "refused: there is no API server here that could issue it"
_ONLY_LINUX = "refused: only Linux pods run here"
_NO_RESIZE = "refused: containers are not resized in place; a pod is replaced instead"
_NO_CLAIMS = "refused: there are no drivers for claimed devices here"
_LOCAL_ONLY = "refused: only volumes of this machine can be mounted; mount it on the host and use a hostPath"
_NO_SELINUX = "accepted: no labels are set, as by a runtime on a kernel without SELinux"
_APPARMOR = "accepted: as on a node without AppArmor, a pod that asks for a profile is not admitted (reason AppArmor)"
_NO_PROVISIONER = "refused: there is no provisioner of volumes here"

_FIELDS: dict[str, str] = {
    "metadata.name": IMPLEMENTED,
    "metadata.generateName": IMPLEMENTED,
    "metadata.namespace": IMPLEMENTED,
    "metadata.labels": IMPLEMENTED,
    "metadata.annotations": IMPLEMENTED,
    "metadata.uid": _SERVER,
    "metadata.resourceVersion": _SERVER,
    "metadata.generation": _SERVER,
    "metadata.creationTimestamp": _SERVER,
    "metadata.deletionTimestamp": _SERVER,
    "metadata.deletionGracePeriodSeconds": _SERVER,
    "metadata.selfLink": _SERVER,
    "metadata.managedFields[]": _SERVER,
    "metadata.ownerReferences[]": _NO_COLLECTOR,
    "metadata.finalizers[]": _NO_COLLECTOR,
    "spec.containers[]": IMPLEMENTED,
    "spec.containers[].name": IMPLEMENTED,
    "spec.containers[].image": IMPLEMENTED,
    "spec.containers[].command[]": IMPLEMENTED,
    "spec.containers[].args[]": IMPLEMENTED,
    "spec.containers[].workingDir": IMPLEMENTED,
    "spec.containers[].ports[]": IMPLEMENTED,
    "spec.containers[].ports[].name": IMPLEMENTED,
    "spec.containers[].ports[].hostPort": IMPLEMENTED,
    "spec.containers[].ports[].containerPort": IMPLEMENTED,
    "spec.containers[].ports[].protocol": IMPLEMENTED,
    "spec.containers[].ports[].hostIP": IMPLEMENTED,
    "spec.containers[].envFrom[]": IMPLEMENTED,
    "spec.containers[].env[]": IMPLEMENTED,
    "spec.containers[].env[].name": IMPLEMENTED,
    "spec.containers[].env[].value": IMPLEMENTED,
    "spec.containers[].env[].valueFrom": IMPLEMENTED,
    "spec.containers[].env[].valueFrom.fieldRef": IMPLEMENTED,
    "spec.containers[].env[].valueFrom.resourceFieldRef": IMPLEMENTED,
    "spec.containers[].env[].valueFrom.configMapKeyRef": IMPLEMENTED,
    "spec.containers[].env[].valueFrom.secretKeyRef": IMPLEMENTED,
    "spec.containers[].env[].valueFrom.fileKeyRef": "refused: variables are not read from files of a volume",
    "spec.containers[].resources": IMPLEMENTED,
    "spec.containers[].resources.limits": IMPLEMENTED,
    "spec.containers[].resources.requests": IMPLEMENTED,
    "spec.containers[].resources.claims[]": _NO_CLAIMS,
    "spec.containers[].resizePolicy[]": _NO_RESIZE,
    "spec.containers[].restartPolicy": IMPLEMENTED,
    "spec.containers[].restartPolicyRules[]": "refused: exit codes do not decide about restarts; use restartPolicy",
    "spec.containers[].volumeMounts[]": IMPLEMENTED,
    "spec.containers[].volumeMounts[].name": IMPLEMENTED,
    "spec.containers[].volumeMounts[].readOnly": IMPLEMENTED,
    "spec.containers[].volumeMounts[].recursiveReadOnly": IMPLEMENTED,
    "spec.containers[].volumeMounts[].mountPath": IMPLEMENTED,
    "spec.containers[].volumeMounts[].subPath": IMPLEMENTED,
    "spec.containers[].volumeMounts[].mountPropagation": IMPLEMENTED,
    "spec.containers[].volumeMounts[].subPathExpr": IMPLEMENTED,
    "spec.containers[].volumeDevices[]": "refused: there are no raw block volumes here; mount a file system instead",
    "spec.containers[].livenessProbe": IMPLEMENTED,
    "spec.containers[].readinessProbe": IMPLEMENTED,
    "spec.containers[].startupProbe": IMPLEMENTED,
    "spec.containers[].lifecycle": IMPLEMENTED,
    "spec.containers[].lifecycle.postStart": IMPLEMENTED,
    "spec.containers[].lifecycle.preStop": IMPLEMENTED,
    "spec.containers[].lifecycle.stopSignal": IMPLEMENTED,
    "spec.containers[].terminationMessagePath": IMPLEMENTED,
    "spec.containers[].terminationMessagePolicy": IMPLEMENTED,
    "spec.containers[].imagePullPolicy": IMPLEMENTED,
    "spec.containers[].securityContext": IMPLEMENTED,
    "spec.containers[].securityContext.capabilities": IMPLEMENTED,
    "spec.containers[].securityContext.privileged": IMPLEMENTED,
    "spec.containers[].securityContext.seLinuxOptions": _NO_SELINUX,
    "spec.containers[].securityContext.windowsOptions": _ONLY_LINUX,
    "spec.containers[].securityContext.runAsUser": IMPLEMENTED,
    "spec.containers[].securityContext.runAsGroup": IMPLEMENTED,
    "spec.containers[].securityContext.runAsNonRoot": IMPLEMENTED,
    "spec.containers[].securityContext.readOnlyRootFilesystem": IMPLEMENTED,
    "spec.containers[].securityContext.allowPrivilegeEscalation": IMPLEMENTED,
    "spec.containers[].securityContext.procMount": IMPLEMENTED,
    "spec.containers[].securityContext.seccompProfile": IMPLEMENTED,
    "spec.containers[].securityContext.appArmorProfile": _APPARMOR,
    "spec.containers[].stdin": IMPLEMENTED,
    "spec.containers[].stdinOnce": IMPLEMENTED,
    "spec.containers[].tty": IMPLEMENTED,
    "spec.volumes[]": IMPLEMENTED,
    "spec.volumes[].name": IMPLEMENTED,
    "spec.volumes[].hostPath": IMPLEMENTED,
    "spec.volumes[].emptyDir": IMPLEMENTED,
    "spec.volumes[].gcePersistentDisk": _LOCAL_ONLY,
    "spec.volumes[].awsElasticBlockStore": _LOCAL_ONLY,
    "spec.volumes[].gitRepo": "refused: disabled in Kubernetes too; clone in an init container instead",
    "spec.volumes[].secret": IMPLEMENTED,
    "spec.volumes[].nfs": _LOCAL_ONLY,
    "spec.volumes[].iscsi": _LOCAL_ONLY,
    "spec.volumes[].glusterfs": _LOCAL_ONLY,
    "spec.volumes[].persistentVolumeClaim": IMPLEMENTED,
    "spec.volumes[].rbd": _LOCAL_ONLY,
    "spec.volumes[].flexVolume": _LOCAL_ONLY,
    "spec.volumes[].cinder": _LOCAL_ONLY,
    "spec.volumes[].cephfs": _LOCAL_ONLY,
    "spec.volumes[].flocker": _LOCAL_ONLY,
    "spec.volumes[].downwardAPI": IMPLEMENTED,
    "spec.volumes[].fc": _LOCAL_ONLY,
    "spec.volumes[].azureFile": _LOCAL_ONLY,
    "spec.volumes[].configMap": IMPLEMENTED,
    "spec.volumes[].vsphereVolume": _LOCAL_ONLY,
    "spec.volumes[].quobyte": _LOCAL_ONLY,
    "spec.volumes[].azureDisk": _LOCAL_ONLY,
    "spec.volumes[].photonPersistentDisk": _LOCAL_ONLY,
    "spec.volumes[].projected": IMPLEMENTED,
    "spec.volumes[].projected.sources[].serviceAccountToken": _NO_TOKENS,
    "spec.volumes[].projected.sources[].clusterTrustBundle": _NO_TOKENS,
    "spec.volumes[].projected.sources[].podCertificate": _NO_TOKENS,
    "spec.volumes[].portworxVolume": _LOCAL_ONLY,
    "spec.volumes[].scaleIO": _LOCAL_ONLY,
    "spec.volumes[].storageos": _LOCAL_ONLY,
    "spec.volumes[].csi": "refused: there are no CSI drivers here",
    "spec.volumes[].ephemeral": _NO_PROVISIONER,
    "spec.volumes[].image": IMPLEMENTED,
    "spec.initContainers[]": IMPLEMENTED,
    "spec.ephemeralContainers[]": "refused: a pod cannot be created with them, only given them while it runs",
    "spec.restartPolicy": IMPLEMENTED,
    "spec.terminationGracePeriodSeconds": IMPLEMENTED,
    "spec.activeDeadlineSeconds": IMPLEMENTED,
    "spec.dnsPolicy": IMPLEMENTED,
    "spec.nodeSelector": _NO_SCHEDULER,
    "spec.serviceAccountName": _NO_API_SERVER,
    "spec.serviceAccount": _NO_API_SERVER,
    "spec.automountServiceAccountToken": "accepted: there are no service account tokens here, so none is mounted",
    "spec.nodeName": "accepted: every pod runs on this machine, whatever the machine's name",
    "spec.hostNetwork": IMPLEMENTED,
    "spec.hostPID": IMPLEMENTED,
    "spec.hostIPC": IMPLEMENTED,
    "spec.shareProcessNamespace": IMPLEMENTED,
    "spec.securityContext": IMPLEMENTED,
    "spec.securityContext.seLinuxOptions": _NO_SELINUX,
    "spec.securityContext.windowsOptions": _ONLY_LINUX,
    "spec.securityContext.runAsUser": IMPLEMENTED,
    "spec.securityContext.runAsGroup": IMPLEMENTED,
    "spec.securityContext.runAsNonRoot": IMPLEMENTED,
    "spec.securityContext.supplementalGroups[]": IMPLEMENTED,
    "spec.securityContext.supplementalGroupsPolicy": IMPLEMENTED,
    "spec.securityContext.fsGroup": IMPLEMENTED,
    "spec.securityContext.sysctls[]": IMPLEMENTED,
    "spec.securityContext.fsGroupChangePolicy": IMPLEMENTED,
    "spec.securityContext.seccompProfile": IMPLEMENTED,
    "spec.securityContext.appArmorProfile": _APPARMOR,
    "spec.securityContext.seLinuxChangePolicy": _NO_SELINUX,
    "spec.imagePullSecrets[]": IMPLEMENTED,
    "spec.hostname": IMPLEMENTED,
    "spec.subdomain": IMPLEMENTED,
    "spec.affinity": _NO_SCHEDULER,
    "spec.schedulerName": _NO_SCHEDULER,
    "spec.tolerations[]": _NO_SCHEDULER,
    "spec.hostAliases[]": IMPLEMENTED,
    "spec.priorityClassName": _NO_SCHEDULER,
    "spec.priority": _NO_SCHEDULER,
    "spec.dnsConfig": IMPLEMENTED,
    "spec.readinessGates[]": IMPLEMENTED,
    "spec.runtimeClassName": IMPLEMENTED,
    "spec.enableServiceLinks": "accepted: there are no Services here, so no variables that describe them",
    "spec.preemptionPolicy": _NO_SCHEDULER,
    "spec.overhead": IMPLEMENTED,
    "spec.topologySpreadConstraints[]": _NO_SCHEDULER,
    "spec.setHostnameAsFQDN": IMPLEMENTED,
    "spec.os": IMPLEMENTED,
    "spec.os.name": _ONLY_LINUX,
    "spec.hostUsers": IMPLEMENTED,
    "spec.schedulingGates[]": "accepted: there is no scheduler here, the pod starts without waiting for its gates",
    "spec.resourceClaims[]": _NO_CLAIMS,
    "spec.resources": "refused: resources belong to containers here, not to the pod as a whole",
    "spec.hostnameOverride": IMPLEMENTED,
    "spec.schedulingGroup": _NO_SCHEDULER,
}

# Types whose every field has a row of its own.
_EXPLICIT = frozenset(
    (
        "Container",
        "ContainerPort",
        "EnvVar",
        "ObjectMeta",
        "PodSecurityContext",
        "PodSpec",
        "ResourceRequirements",
        "SecurityContext",
        "Volume",
        "VolumeMount",
    )
)

# Accepted fields without which a pod is not what its manifest asks for, and not only moot on one machine: who uses one
# is told. `[]` stands for any index.
_TOLD = frozenset(
    (
        "spec.affinity",
        "spec.automountServiceAccountToken",
        "spec.containers[].securityContext.seLinuxOptions",
        "spec.initContainers[].securityContext.seLinuxOptions",
        "spec.nodeSelector",
        "spec.schedulingGates",
        "spec.schedulingGroup",
        "spec.securityContext.seLinuxOptions",
        "spec.topologySpreadConstraints",
    )
)

# Values that ask for nothing: the API's defaults.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "spec.automountServiceAccountToken": (False,),
    "spec.enableServiceLinks": (True,),
    "spec.os.name": ("linux",),
    "spec.preemptionPolicy": ("PreemptLowerPriority",),
    "spec.priority": (0,),
    "spec.schedulerName": ("default-scheduler",),
    "spec.securityContext.seLinuxChangePolicy": ("Recursive",),
}

# What of a resource list is enforced, as are huge pages; anything else is refused.
_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_NO_DEVICES = "there are no device plugins here that could provide it"


class Row(msgspec.Struct, frozen=True):
    """One field: `status` is IMPLEMENTED, ACCEPTED or REFUSED, `reason` is empty only for the first.

    `harmless` are values that ask for nothing and may be given whatever the status.
    """

    path: str
    status: str
    reason: str = ""
    harmless: tuple[Any, ...] = ()


def used_fields(pod: Pod) -> tuple[list[Problem], list[str]]:
    """(a problem for each refused field that the pod uses, a sentence about those that are accepted and would have made
    a difference, by reason). The pod has been defaulted."""
    problems: list[Problem] = []
    idle: dict[str, list[str]] = {}
    for path, status, reason in _used(pod):
        if status == REFUSED:
            problems.append(Problem(path, _refusal(reason), FORBIDDEN))
        elif _without_indices(path) in _TOLD:
            idle.setdefault(reason, []).append(path)
    name = pod.metadata.name or pod.metadata.generate_name
    return problems, [
        f'Pod "{name}": {", ".join(paths)} {"has" if len(paths) == 1 else "have"} no effect here: {reason}.'
        for reason, paths in idle.items()
    ]


def _without_indices(path: str) -> str:
    """spec.containers[2].name → spec.containers[].name"""
    parts = (part.partition("[") for part in path.split("."))
    return ".".join([f"{name}[]" if bracket else name for name, bracket, _ in parts])


def rows() -> list[Row]:
    """Every field of a pod's metadata and spec, each type's where it occurs first. Imports all API types."""
    from podlite.api.meta import ObjectMeta
    from podlite.api.pod import PodSpec

    seen: set[type[Object]] = {ObjectMeta, PodSpec}
    found = [*_type_rows(ObjectMeta, "metadata", "", seen), *_type_rows(PodSpec, "spec", "", seen)]
    return [Row(path, *_split(rule), harmless=_HARMLESS.get(path, ())) for path, rule in found]


def _refusal(reason: str) -> str:
    return f"Forbidden: not supported by podlite: {reason}"


def _split(rule: str) -> tuple[str, str]:
    status, _, reason = rule.partition(": ")
    return status, reason


def _used(pod: Pod) -> Iterator[tuple[str, str, str]]:
    """Path, status and reason of each field in use whose row is not IMPLEMENTED."""
    yield from _used_below(pod.metadata, "metadata", "metadata", "", pod)
    yield from _used_below(pod.spec, "spec", "spec", "", pod)


def _used_below(owner: Object, path: str, row_path: str, inherited: str, pod: Pod) -> Iterator[tuple[str, str, str]]:
    kind = type(owner)
    fields = zip(kind.__struct_fields__, kind.__struct_encode_fields__, kind.__struct_defaults__, strict=True)
    for name, wire, default in fields:
        value = getattr(owner, name)
        # zero means something only where unset would be None
        if value is None or (default is not None and not value and not isinstance(value, Object)):
            continue
        many = isinstance(value, list)
        place = f"{row_path}.{wire}[]" if many else f"{row_path}.{wire}"
        rule = _FIELDS.get(place) or inherited
        if rule != IMPLEMENTED:
            if value not in _HARMLESS.get(place, ()) and not (wire == "hostPort" and pod.spec.host_network):
                yield (f"{path}.{wire}", *_split(rule))
            continue
        if place == "spec.initContainers[]":
            place = "spec.containers[]"
        if many and isinstance(value[0], Object):
            for index, each in enumerate(value):
                yield from _used_below(each, f"{path}.{wire}[{index}]", place, rule, pod)
        elif isinstance(value, Object):
            yield from _used_below(value, f"{path}.{wire}", place, rule, pod)
        elif place in ("spec.containers[].resources.limits", "spec.containers[].resources.requests"):
            yield from _used_resources(value, f"{path}.{wire}")


def _used_resources(resources: dict[str, str], path: str) -> Iterator[tuple[str, str, str]]:
    for name in resources:
        if name not in _RESOURCES and not name.startswith("hugepages-"):
            yield (f"{path}[{name}]", REFUSED, _NO_DEVICES)


def _type_rows(kind: type[Object], path: str, inherited: str, seen: set[type[Object]]) -> Iterator[tuple[str, str]]:
    pairs = list(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    # containers first: init containers refer to their rows
    pairs.sort(key=lambda pair: kind.__name__ == "PodSpec" and pair[1] != "containers")
    for name, wire in pairs:
        inner, many = _inner_type(kind, name)
        place = f"{path}.{wire}[]" if many else f"{path}.{wire}"
        rule = _FIELDS.get(place, "")
        if not rule:
            if kind.__name__ in _EXPLICIT:
                raise LookupError(f"{place} has no row in podlite.api.fields")
            rule = inherited
        yield place, rule
        if inner is not None and inner not in seen:
            seen.add(inner)
            yield from _type_rows(inner, place, rule, seen)


def _inner_type(kind: type[Object], name: str) -> tuple[type[Object] | None, bool]:
    """The type of a field or of its elements if it is one of the API's, and whether the field is a list."""
    for base in kind.__mro__:
        annotation: str | None = getattr(base, "__annotations__", {}).get(name)
        if annotation is not None:
            break
    else:
        raise LookupError(f"{kind.__name__} has no field {name!r}")
    annotation = annotation.removesuffix(" | None")
    many = annotation.startswith("list[")
    annotation = annotation.removeprefix("list[").removesuffix("]") if many else annotation
    if annotation.startswith("dict["):
        return None, False
    try:
        return type_named(annotation, base.__module__), many
    except LookupError:
        return None, many
