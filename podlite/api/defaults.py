"""What the API server fills in when a pod says nothing.

`set_pod_defaults` changes the pod in place and may be called again: a second time changes nothing. Quantities
in resource lists become canonical and are rounded up to thousandths, as the API server keeps them.

Left out: what admission plugins add on a cluster (tolerations, the service account's token, priorities) and
the defaults of pod-level resources, which podlite refuses.

Source: pkg/apis/core/v1/defaults.go, zz_generated.defaults.go and conversion.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api import quantity
from podlite.api.image_name import image_pull_policy
from podlite.api.security import PodSecurityContext

if TYPE_CHECKING:
    from podlite.api.base import Quantity
    from podlite.api.config import Secret
    from podlite.api.container import Container
    from podlite.api.pod import Pod, PodSpec
    from podlite.api.probes import HTTPGetAction, Probe
    from podlite.api.volumes import DownwardAPIVolumeFile, Volume

DEFAULT_NAMESPACE = "default"
TERMINATION_GRACE_PERIOD_SECONDS = 30
TERMINATION_MESSAGE_PATH = "/dev/termination-log"
FILE_MODE = 0o644
TOKEN_EXPIRATION_SECONDS = 3600


def set_pod_defaults(pod: Pod) -> None:
    """Fills in what the pod leaves out, its namespace included."""
    if not pod.metadata.namespace:
        pod.metadata.namespace = DEFAULT_NAMESPACE
    spec = pod.spec
    if spec.enable_service_links is None:
        spec.enable_service_links = True
    for container in (*spec.init_containers, *spec.containers):
        for name, limit in container.resources.limits.items():
            container.resources.requests.setdefault(name, limit)
        if spec.host_network:
            for port in container.ports:
                port.host_port = port.host_port or port.container_port
    set_template_defaults(spec)


def set_template_defaults(spec: PodSpec) -> None:
    """Fills in what is filled in already in a pod template; the pods that are made of it get the rest."""
    if not spec.dns_policy:
        spec.dns_policy = "ClusterFirst"
    if not spec.restart_policy:
        spec.restart_policy = "Always"
    if spec.security_context is None:
        spec.security_context = PodSecurityContext()
    if spec.termination_grace_period_seconds is None:
        spec.termination_grace_period_seconds = TERMINATION_GRACE_PERIOD_SECONDS
    elif spec.termination_grace_period_seconds < 0:
        spec.termination_grace_period_seconds = 1
    if not spec.scheduler_name:
        spec.scheduler_name = "default-scheduler"
    if not spec.service_account_name:
        spec.service_account_name = spec.service_account
    spec.service_account = spec.service_account_name
    for volume in spec.volumes:
        _set_volume_defaults(volume)
    for container in (*spec.init_containers, *spec.containers, *spec.ephemeral_containers):
        _set_container_defaults(container)
    round_resources(spec.overhead)
    if spec.resources is not None:
        round_resources(spec.resources.limits)
        round_resources(spec.resources.requests)


def set_secret_defaults(secret: Secret) -> None:
    """Fills in the type; moves `string_data` into `data`, where it wins, as the API server does on writing."""
    if not secret.type:
        secret.type = "Opaque"
    for key, text in secret.string_data.items():
        secret.data[key] = text.encode()
    secret.string_data = {}


def round_resources(resources: dict[str, Quantity]) -> None:
    """Makes the quantities of a resource list canonical, rounded up to thousandths. What is none stays as it is."""
    for name, given in resources.items():
        try:
            resources[name] = str(quantity.parse(given).rounded_to_milli())
        except quantity.QuantityError:
            continue


def _canonical(given: Quantity) -> Quantity:
    try:
        return quantity.canonical(given)
    except quantity.QuantityError:
        return given


def _set_container_defaults(container: Container) -> None:
    if not container.image_pull_policy:
        container.image_pull_policy = image_pull_policy(container.image)
    if not container.termination_message_path:
        container.termination_message_path = TERMINATION_MESSAGE_PATH
    if not container.termination_message_policy:
        container.termination_message_policy = "File"
    for port in container.ports:
        if not port.protocol:
            port.protocol = "TCP"
    for variable in container.env:
        source = variable.value_from
        if source is None:
            continue
        if source.field_ref is not None and not source.field_ref.api_version:
            source.field_ref.api_version = "v1"
        if source.resource_field_ref is not None:
            source.resource_field_ref.divisor = _canonical(source.resource_field_ref.divisor)
        if source.file_key_ref is not None and source.file_key_ref.optional is None:
            source.file_key_ref.optional = False
    round_resources(container.resources.limits)
    round_resources(container.resources.requests)
    for probe in (container.liveness_probe, container.readiness_probe, container.startup_probe):
        if probe is not None:
            _set_probe_defaults(probe)
    if container.lifecycle is not None:
        for handler in (container.lifecycle.post_start, container.lifecycle.pre_stop):
            if handler is not None:
                _set_http_get_defaults(handler.http_get)


def _set_probe_defaults(probe: Probe) -> None:
    probe.timeout_seconds = probe.timeout_seconds or 1
    probe.period_seconds = probe.period_seconds or 10
    probe.success_threshold = probe.success_threshold or 1
    probe.failure_threshold = probe.failure_threshold or 3
    _set_http_get_defaults(probe.http_get)
    if probe.grpc is not None and probe.grpc.service is None:
        probe.grpc.service = ""


def _set_http_get_defaults(action: HTTPGetAction | None) -> None:
    if action is not None:
        action.path = action.path or "/"
        action.scheme = action.scheme or "HTTP"


def _set_volume_defaults(volume: Volume) -> None:
    sources = [name for name in volume.__struct_fields__ if name != "name" and getattr(volume, name) is not None]
    if not sources:
        from podlite.api.volumes import EmptyDirVolumeSource

        volume.empty_dir = EmptyDirVolumeSource()
    for name in sources:
        setter = _VOLUME_DEFAULTS.get(name)
        if setter is not None:
            setter(volume)


def _empty_dir(volume: Volume) -> None:
    if volume.empty_dir is not None and volume.empty_dir.size_limit is not None:
        volume.empty_dir.size_limit = _canonical(volume.empty_dir.size_limit)


def _host_path(volume: Volume) -> None:
    if volume.host_path is not None and volume.host_path.type is None:
        volume.host_path.type = ""


def _mode(volume: Volume) -> None:
    for source in (volume.config_map, volume.secret, volume.downward_api, volume.projected):
        if source is not None and source.default_mode is None:
            source.default_mode = FILE_MODE


def _downward_api(volume: Volume) -> None:
    _mode(volume)
    if volume.downward_api is not None:
        _references(volume.downward_api.items)


def _projected(volume: Volume) -> None:
    _mode(volume)
    for source in volume.projected.sources if volume.projected is not None else ():
        if source.downward_api is not None:
            _references(source.downward_api.items)
        token = source.service_account_token
        if token is not None and token.expiration_seconds is None:
            token.expiration_seconds = TOKEN_EXPIRATION_SECONDS


def _references(files: list[DownwardAPIVolumeFile]) -> None:
    for file in files:
        if file.resource_field_ref is not None:
            file.resource_field_ref.divisor = _canonical(file.resource_field_ref.divisor)
        if file.field_ref is not None and not file.field_ref.api_version:
            file.field_ref.api_version = "v1"


def _image(volume: Volume) -> None:
    if volume.image is not None and not volume.image.pull_policy:
        volume.image.pull_policy = image_pull_policy(volume.image.reference)


def _ephemeral(volume: Volume) -> None:
    if volume.ephemeral is None or volume.ephemeral.volume_claim_template is None:
        return
    claim = volume.ephemeral.volume_claim_template.spec
    if claim.volume_mode is None:
        claim.volume_mode = "Filesystem"
    round_resources(claim.resources.limits)
    round_resources(claim.resources.requests)


def _iscsi(volume: Volume) -> None:
    if volume.iscsi is not None:
        volume.iscsi.iscsi_interface = volume.iscsi.iscsi_interface or "default"


def _rbd(volume: Volume) -> None:
    if volume.rbd is not None:
        volume.rbd.pool = volume.rbd.pool or "rbd"
        volume.rbd.user = volume.rbd.user or "admin"
        volume.rbd.keyring = volume.rbd.keyring or "/etc/ceph/keyring"


def _scale_io(volume: Volume) -> None:
    if volume.scale_io is not None:
        volume.scale_io.storage_mode = volume.scale_io.storage_mode or "ThinProvisioned"
        volume.scale_io.fs_type = volume.scale_io.fs_type or "xfs"


def _azure_disk(volume: Volume) -> None:
    disk = volume.azure_disk
    if disk is not None:
        disk.caching_mode = "ReadWrite" if disk.caching_mode is None else disk.caching_mode
        disk.fs_type = "ext4" if disk.fs_type is None else disk.fs_type
        disk.read_only = False if disk.read_only is None else disk.read_only
        disk.kind = "Shared" if disk.kind is None else disk.kind


_VOLUME_DEFAULTS = {
    "azure_disk": _azure_disk,
    "config_map": _mode,
    "downward_api": _downward_api,
    "empty_dir": _empty_dir,
    "ephemeral": _ephemeral,
    "host_path": _host_path,
    "image": _image,
    "iscsi": _iscsi,
    "projected": _projected,
    "rbd": _rbd,
    "scale_io": _scale_io,
    "secret": _mode,
}
