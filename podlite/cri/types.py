"""The messages of CRI v1 that describe sandboxes, containers and images, as plain typed objects.

A field that protobuf cannot leave out has its zero value as default; one that is a message of its own,
or wrapped in `Int64Value`, is None when absent. Times are nanoseconds since the epoch, sizes are bytes.

Source: k8s.io/cri-api/pkg/apis/runtime/v1/api.proto, as of Kubernetes 1.36.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec


class Message(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The base of every CRI message."""


class Protocol(IntEnum):
    TCP = 0
    UDP = 1
    SCTP = 2


class MountPropagation(IntEnum):
    PROPAGATION_PRIVATE = 0
    PROPAGATION_HOST_TO_CONTAINER = 1
    PROPAGATION_BIDIRECTIONAL = 2


class NamespaceMode(IntEnum):
    """POD: shared within the pod. CONTAINER: the container's own. NODE: the host's. TARGET: that of `target_id`."""

    POD = 0
    CONTAINER = 1
    NODE = 2
    TARGET = 3


class SupplementalGroupsPolicy(IntEnum):
    """Merge: groups of the user in the image's /etc/group count too. Strict: only those that are stated."""

    Merge = 0
    Strict = 1


class ProfileType(IntEnum):
    RuntimeDefault = 0
    Unconfined = 1
    Localhost = 2


class PodSandboxState(IntEnum):
    SANDBOX_READY = 0
    SANDBOX_NOTREADY = 1


class ContainerState(IntEnum):
    CONTAINER_CREATED = 0
    CONTAINER_RUNNING = 1
    CONTAINER_EXITED = 2
    CONTAINER_UNKNOWN = 3


class ContainerEventType(IntEnum):
    CONTAINER_CREATED_EVENT = 0
    CONTAINER_STARTED_EVENT = 1
    CONTAINER_STOPPED_EVENT = 2
    CONTAINER_DELETED_EVENT = 3


class CgroupDriver(IntEnum):
    SYSTEMD = 0
    CGROUPFS = 1


# --- parts ----------------------------------------------------------------------------------


class DNSConfig(Message):
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []


class PortMapping(Message):
    protocol: Protocol = Protocol.TCP
    container_port: int = 0
    host_port: int = 0
    host_ip: str = ""


class IDMapping(Message):
    host_id: int = 0
    container_id: int = 0
    length: int = 0


class ImageSpec(Message):
    """`image` is what the runtime is asked for; `user_specified_image` is what the pod's author wrote."""

    image: str = ""
    annotations: dict[str, str] = {}
    user_specified_image: str = ""
    runtime_handler: str = ""
    image_ref: str = ""


class Mount(Message):
    """Either `host_path`, or `image` with `image_sub_path`, mounted at `container_path`."""

    container_path: str = ""
    host_path: str = ""
    readonly: bool = False
    selinux_relabel: bool = False
    propagation: MountPropagation = MountPropagation.PROPAGATION_PRIVATE
    uidMappings: list[IDMapping] = []  # noqa: N815 - the field's name in CRI
    gidMappings: list[IDMapping] = []  # noqa: N815
    recursive_read_only: bool = False
    image: ImageSpec | None = None
    image_sub_path: str = ""


class UserNamespace(Message):
    """`mode` is POD for a user namespace of the pod's own, NODE for none."""

    mode: NamespaceMode = NamespaceMode.POD
    uids: list[IDMapping] = []
    gids: list[IDMapping] = []


class NamespaceOption(Message):
    network: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.POD
    ipc: NamespaceMode = NamespaceMode.POD
    target_id: str = ""
    userns_options: UserNamespace | None = None


class SELinuxOption(Message):
    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class SecurityProfile(Message):
    """`localhost_ref` names the profile for Localhost: for seccomp the absolute path of a file."""

    profile_type: ProfileType = ProfileType.RuntimeDefault
    localhost_ref: str = ""


class Capability(Message):
    """Names without the `CAP_` prefix; `ALL` stands for every one."""

    add_capabilities: list[str] = []
    drop_capabilities: list[str] = []
    add_ambient_capabilities: list[str] = []


class HugepageLimit(Message):
    page_size: str = ""
    limit: int = 0


class LinuxContainerResources(Message):
    """`cpu_period` and `cpu_quota` are microseconds; zero means "not specified" throughout."""

    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    memory_limit_in_bytes: int = 0
    oom_score_adj: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    hugepage_limits: list[HugepageLimit] = []
    unified: dict[str, str] = {}
    memory_swap_limit_in_bytes: int = 0


class Device(Message):
    """`permissions` is a subset of `rwm`: read, write, mknod."""

    container_path: str = ""
    host_path: str = ""
    permissions: str = ""


class CDIDevice(Message):
    name: str = ""


class KeyValue(Message):
    key: str = ""
    value: bytes = b""


# --- sandboxes ------------------------------------------------------------------------------


class LinuxSandboxSecurityContext(Message):
    namespace_options: NamespaceOption | None = None
    selinux_options: SELinuxOption | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    readonly_rootfs: bool = False
    supplemental_groups: list[int] = []
    supplemental_groups_policy: SupplementalGroupsPolicy = SupplementalGroupsPolicy.Merge
    privileged: bool = False
    seccomp: SecurityProfile | None = None
    apparmor: SecurityProfile | None = None


class LinuxPodSandboxConfig(Message):
    """`cgroup_parent` is the pod's cgroup, made by the caller; `resources` are the sum over its containers."""

    cgroup_parent: str = ""
    security_context: LinuxSandboxSecurityContext | None = None
    sysctls: dict[str, str] = {}
    overhead: LinuxContainerResources | None = None
    resources: LinuxContainerResources | None = None


class PodSandboxMetadata(Message):
    """Together these four are unique among the sandboxes of a runtime."""

    name: str = ""
    uid: str = ""
    namespace: str = ""
    attempt: int = 0


class PodSandboxConfig(Message):
    """An empty `hostname` means that the pod uses the host's; `log_directory` is absolute."""

    metadata: PodSandboxMetadata
    hostname: str = ""
    log_directory: str = ""
    dns_config: DNSConfig | None = None
    port_mappings: list[PortMapping] = []
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    linux: LinuxPodSandboxConfig | None = None


class PodSandboxNetworkStatus(Message):
    """`ip` is the first address, or empty for the host's network; `additional_ips` are the others."""

    ip: str = ""
    additional_ips: list[str] = []


class PodSandboxStatus(Message):
    """`info` is filled only when the call was verbose; its values are JSON."""

    id: str
    metadata: PodSandboxMetadata
    state: PodSandboxState = PodSandboxState.SANDBOX_READY
    created_at: int = 0
    network: PodSandboxNetworkStatus | None = None
    namespaces: NamespaceOption | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    runtime_handler: str = ""
    info: dict[str, str] = {}


class PodSandbox(Message):
    id: str
    metadata: PodSandboxMetadata
    state: PodSandboxState = PodSandboxState.SANDBOX_READY
    created_at: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    runtime_handler: str = ""


class PodSandboxFilter(Message):
    """All given conditions must hold; an `id` may be a unique prefix."""

    id: str = ""
    state: PodSandboxState | None = None
    label_selector: dict[str, str] = {}


# --- containers -----------------------------------------------------------------------------


class LinuxContainerSecurityContext(Message):
    """Of `run_as_user` and `run_as_username` at most one is set; `run_as_group` needs one of them."""

    capabilities: Capability | None = None
    privileged: bool = False
    namespace_options: NamespaceOption | None = None
    selinux_options: SELinuxOption | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_username: str = ""
    readonly_rootfs: bool = False
    supplemental_groups: list[int] = []
    supplemental_groups_policy: SupplementalGroupsPolicy = SupplementalGroupsPolicy.Merge
    no_new_privs: bool = False
    masked_paths: list[str] = []
    readonly_paths: list[str] = []
    seccomp: SecurityProfile | None = None
    apparmor: SecurityProfile | None = None


class LinuxContainerConfig(Message):
    resources: LinuxContainerResources | None = None
    security_context: LinuxContainerSecurityContext | None = None


class ContainerMetadata(Message):
    """`attempt` counts the restarts; name and attempt are unique within the sandbox."""

    name: str = ""
    attempt: int = 0


class ContainerConfig(Message):
    """`command` replaces the image's entrypoint and `args` its cmd; `log_path` is relative to the
    sandbox's `log_directory`; `stop_signal` is a name such as SIGTERM, empty for the image's."""

    metadata: ContainerMetadata
    image: ImageSpec
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    envs: list[KeyValue] = []
    mounts: list[Mount] = []
    devices: list[Device] = []
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    linux: LinuxContainerConfig | None = None
    CDI_devices: list[CDIDevice] = []
    stop_signal: str = ""


class LinuxContainerUser(Message):
    uid: int = 0
    gid: int = 0
    supplemental_groups: list[int] = []


class ContainerStatus(Message):
    """`info` is filled only when the call was verbose; its values are JSON."""

    id: str
    metadata: ContainerMetadata
    state: ContainerState = ContainerState.CONTAINER_UNKNOWN
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    image: ImageSpec | None = None
    image_ref: str = ""
    reason: str = ""
    message: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    mounts: list[Mount] = []
    log_path: str = ""
    resources: LinuxContainerResources | None = None
    image_id: str = ""
    user: LinuxContainerUser | None = None
    stop_signal: str = ""
    info: dict[str, str] = {}


class Container(Message):
    id: str
    metadata: ContainerMetadata
    pod_sandbox_id: str = ""
    image: ImageSpec | None = None
    image_ref: str = ""
    state: ContainerState = ContainerState.CONTAINER_UNKNOWN
    created_at: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    image_id: str = ""


class ContainerFilter(Message):
    """All given conditions must hold; an `id` may be a unique prefix."""

    id: str = ""
    state: ContainerState | None = None
    pod_sandbox_id: str = ""
    label_selector: dict[str, str] = {}


class ExecSyncResult(Message):
    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0


class ContainerEvent(Message):
    """What GetContainerEvents streams; for a sandbox's own event `container_id` is the sandbox's id."""

    container_id: str
    container_event_type: ContainerEventType
    created_at: int = 0
    pod_sandbox_status: PodSandboxStatus | None = None
    containers_statuses: list[ContainerStatus] = []


# --- images ---------------------------------------------------------------------------------


class Image(Message):
    """`id` is the digest of the configuration; `uid` and `username` are the image's user, at most one set."""

    id: str
    repo_tags: list[str] = []
    repo_digests: list[str] = []
    size: int = 0
    uid: int | None = None
    username: str = ""
    spec: ImageSpec | None = None
    pinned: bool = False
    info: dict[str, str] = {}


class AuthConfig(Message):
    username: str = ""
    password: str = ""
    auth: str = ""
    server_address: str = ""
    identity_token: str = ""
    registry_token: str = ""


class FilesystemUsage(Message):
    timestamp: int = 0
    mountpoint: str = ""
    used_bytes: int | None = None
    inodes_used: int | None = None


# --- the runtime ----------------------------------------------------------------------------


class VersionResponse(Message):
    version: str = ""
    runtime_name: str = ""
    runtime_version: str = ""
    runtime_api_version: str = ""


class RuntimeCondition(Message):
    """The required types are RuntimeReady and NetworkReady."""

    type: str
    status: bool = False
    reason: str = ""
    message: str = ""


class RuntimeHandler(Message):
    name: str = ""
    recursive_read_only_mounts: bool = False
    user_namespaces: bool = False


class RuntimeStatus(Message):
    """StatusResponse: `info` is filled only when the call was verbose."""

    conditions: list[RuntimeCondition] = []
    info: dict[str, str] = {}
    runtime_handlers: list[RuntimeHandler] = []
    supplemental_groups_policy: bool = False
    user_namespaces_host_network: bool = False


class LinuxRuntimeConfiguration(Message):
    cgroup_driver: CgroupDriver = CgroupDriver.SYSTEMD


class RuntimeConfiguration(Message):
    """RuntimeConfigResponse: what a kubelet has to know before it names cgroups."""

    linux: LinuxRuntimeConfiguration | None = None


class NetworkConfig(Message):
    """`pod_cidr`: the ranges for pods' addresses, comma-separated."""

    pod_cidr: str = ""


class RuntimeConfig(Message):
    """What UpdateRuntimeConfig brings."""

    network_config: NetworkConfig | None = None
