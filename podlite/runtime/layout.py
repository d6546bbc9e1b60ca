"""Where everything is: the directories and names that all podlite processes on a machine agree on (DESIGN 2)."""

from __future__ import annotations

import msgspec

from podlite.runtime.journal import boot_id

RUN_DIR = "/run/podlite"
STATE_DIR = "/var/lib/podlite"
LOG_DIR = "/var/log/pods"
NETNS_DIR = "/var/run/netns"
CGROUP_ROOT = "/podlite"
POD_CIDRS = ("10.85.0.0/16", "fd85::/64")


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The directories, with podlite's defaults."""

    run_dir: str = RUN_DIR
    state_dir: str = STATE_DIR
    log_dir: str = LOG_DIR
    netns_dir: str = NETNS_DIR
    cgroup_root: str = CGROUP_ROOT

    @property
    def pods_dir(self) -> str:
        """One directory per pod: its record, its lock, its shim's socket."""
        return f"{self.run_dir}/pods"

    @property
    def locks_dir(self) -> str:
        """The named locks of what all podlite processes share."""
        return f"{self.run_dir}/locks"

    @property
    def containers_dir(self) -> str:
        """The writable layers: large, and so not in the run directory, which is memory on most machines.

        Each boot has its own, so that what another boot left is garbage beyond doubt.
        """
        return f"{self.state_dir}/containers/{boot_id()}"

    @property
    def trash_dir(self) -> str:
        """Where directories go that are to be removed: see podlite.linux.trash."""
        return f"{self.state_dir}/trash"

    @property
    def images_dir(self) -> str:
        return f"{self.state_dir}/images"

    @property
    def cache_dir(self) -> str:
        return f"{self.state_dir}/cache"


def is_pod_file(name: str) -> bool:
    """Whether a file in a pod's directory is the kubelet side's, which goes with the pod, not with the sandbox."""
    return name.startswith(("pod.", ".pod."))


def netns_name(sandbox_id: str) -> str:
    """`cni-` and the sandbox id in the form of a UUID, as containerd's pins are called."""
    x = sandbox_id
    return f"cni-{x[:8]}-{x[8:12]}-{x[12:16]}-{x[16:20]}-{x[20:32]}"


def host_interface(sandbox_id: str) -> str:
    """The host end of a pod's veth pair; at most 15 characters (IFNAMSIZ)."""
    return f"pl{sandbox_id[:8]}"
