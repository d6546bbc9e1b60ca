"""What killed podlites left behind, and ended pods that were kept: torn down by what is written down of them.

First the runtime's part, by its records, then the kubelet side's, by the pods' files. Where a pod keeps its files is
written down too, so whoever tears it down need not have been told. Everything here blocks.
"""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import TYPE_CHECKING

from msgspec import structs

from podlite import log
from podlite.agent.node import NodeOptions, kubelet_config, make_networks
from podlite.errors import PodliteError, explain
from podlite.kubelet.labels import POD_UID
from podlite.kubelet.pod_files import remove_pod_directory
from podlite.kubelet.written_pods import KEPT, LOCK, NAME, read_holder, read_pod, remove_files
from podlite.linux.cgroups import CgroupError, Cgroups
from podlite.runtime.image.store import ImageStore
from podlite.runtime.journal import FILE as RECORD
from podlite.runtime.locks import FileLock
from podlite.runtime.reaper import Reaper
from podlite.runtime.sandbox.run import LOCK as SANDBOX_LOCK

if TYPE_CHECKING:
    from collections.abc import Collection

    from podlite.api.pod import Pod
    from podlite.runtime.layout import Layout
    from podlite.runtime.network.interface import PodNetwork
    from podlite.runtime.network.networks import Networks


def reap_orphans(
    options: NodeOptions,
    networks: Networks | None = None,
    cgroups: Cgroups | None = None,
    *,
    only: Collection[str] | None = None,
) -> list[str]:
    """Tears down every pod without an owner; returns them as `namespace/name`. Problems are logged.

    One that is on another runtime is removed from there first; as long as that does not answer, it stays.

    Left alone are kept pods, and those that wait for an agent to adopt them.

    With `only`, the pods with these UIDs and no others, kept or not; those that have an owner stay all the same.
    `networks` and `cgroups` are the caller's, if it has them open already.
    """
    used_networks = networks or make_networks(options)
    named = partial(_named, used_networks)
    reaped: list[str] = []
    for layout, uids in _by_layout(options, only).items():
        here = structs.replace(options, layout=layout)
        used = cgroups if cgroups is not None and layout.cgroup_root == options.layout.cgroup_root else _cgroups(here)
        reaped += Reaper(layout, named, ImageStore(layout.images_dir), used, _log_problem).reap(uids)
        reaped += [pod for pod in _reap_pods(here, used, uids) if pod not in reaped]
        if used is not None and used is not cgroups:
            used.close()
    if networks is None:
        used_networks.release_unused()
        used_networks.close()
    return reaped


def orphans(options: NodeOptions) -> list[str]:
    """The UIDs of the pods that `reap_orphans` would tear down, unless a shim turns out to live on."""
    return [uid for uid in _uids(options) if not _is_kept(options, uid) and not _is_held(options, uid)]


def _named(networks: Networks, name: str) -> PodNetwork | None:
    try:
        return networks.named(name)
    except PodliteError:
        return None


def reap_half_made(
    options: NodeOptions, networks: Networks, cgroups: Cgroups | None, *, leave: Collection[str] = ()
) -> list[str]:
    """For who adopts pods: tears down the sandboxes of theirs that could not be adopted, for their making was cut
    short. The pods stay as they are. Those whose shim lives are left alone, and those of the pods in `leave` (UIDs).
    Returns what `Reaper.reap` does.
    """
    uids = {
        uid for uid in set(_uids(options)).difference(leave) if read_holder(f"{options.layout.pods_dir}/{uid}")[0].stay
    }
    for uid in uids:
        _remove_remains(options, uid)
    if not uids:
        return []
    store = ImageStore(options.layout.images_dir)
    return Reaper(options.layout, partial(_named, networks), store, cgroups, _log_problem).reap(uids)


def remove_sandboxes(endpoint: str, uid: str) -> None:
    """Has another runtime end and remove what it has of a pod; idempotent. Raises PodliteError."""
    try:
        from podlite.rpc.blocking import BlockingRuntime
    except ImportError:
        raise PodliteError(
            f"the pod is on the runtime at {endpoint}, which takes gRPC to reach", hint="pip install 'podlite[cri]'"
        ) from None
    with BlockingRuntime(endpoint) as runtime:
        for id in runtime.sandboxes({POD_UID: uid}):
            runtime.remove_sandbox(id)


def _remove_remains(options: NodeOptions, uid: str) -> None:
    """The lock of a pod whose file is gone, or was never written: its maker was killed in the pod's first moment, or in
    its last one, in which nothing else of it is there."""
    directory = f"{options.layout.pods_dir}/{uid}"
    if os.path.exists(f"{directory}/{NAME}") or _has_record(options, uid):
        return
    lock = FileLock(f"{directory}/{LOCK}")
    try:
        if lock.acquire(wait=False):
            remove_files(directory)
    except OSError as error:
        log.warning("what is left of a pod cannot be removed", path=directory, why=explain(error))
    finally:
        lock.release()


def clean_up_pod(options: NodeOptions, uid: str, pod: Pod | None, cgroups: Cgroups | None) -> None:
    """Removes all that the kubelet side keeps of a pod; idempotent.

    Raises OSError, CgroupError, PodliteError; the pod's file stays then, for another attempt.
    """
    remove_pod_directory(kubelet_config(options), uid)
    if cgroups is not None:
        for qos in ("Guaranteed", "Burstable", "BestEffort"):
            path = cgroups.pod_path(qos, uid)
            cgroups.remove(path)
            cgroups.remove_empty_parents(path)
    if pod is not None and not options.keep_logs:
        meta = pod.metadata
        shutil.rmtree(f"{options.layout.log_dir}/{meta.namespace}_{meta.name}_{uid}", ignore_errors=True)
    remove_files(f"{options.layout.pods_dir}/{uid}")


def _log_problem(text: str) -> None:
    log.warning(text)


def _cgroups(options: NodeOptions) -> Cgroups | None:
    try:
        return Cgroups.detect(options.layout.cgroup_root)
    except OSError as error:
        log.warning("cgroups cannot be used, so none are removed", why=explain(error))
        return None


def _uids(options: NodeOptions) -> list[str]:
    """The pods in the run directory; later sandboxes of a pod have directories `<uid>.<attempt>`."""
    try:
        names = os.listdir(options.layout.pods_dir)
    except FileNotFoundError:
        return []
    return sorted({name.partition(".")[0] for name in names})


def _is_kept(options: NodeOptions, uid: str) -> bool:
    """Whether a pod without an owner is to be left alone."""
    directory = f"{options.layout.pods_dir}/{uid}"
    return os.path.exists(f"{directory}/{KEPT}") or read_holder(directory)[0].stay


def _is_held(options: NodeOptions, uid: str) -> bool:
    """Whether a live process has one of the two locks of a pod's directory."""
    directory = f"{options.layout.pods_dir}/{uid}"
    if read_holder(directory)[1]:
        return True
    if not os.path.exists(f"{directory}/{SANDBOX_LOCK}"):
        return False
    lock = FileLock(f"{directory}/{SANDBOX_LOCK}")
    held = not lock.acquire(wait=False)
    lock.release()
    return held


def _by_layout(options: NodeOptions, only: Collection[str] | None) -> dict[Layout, set[str]]:
    """The UIDs to look at, by where their pods keep their files."""
    found: dict[Layout, set[str]] = {options.layout: set()}
    for uid in _uids(options):
        if uid not in only if only is not None else _is_kept(options, uid):
            continue
        holder, _ = read_holder(f"{options.layout.pods_dir}/{uid}")
        layout = options.layout
        if holder.state_dir:
            layout = structs.replace(
                layout, state_dir=holder.state_dir, log_dir=holder.log_dir, cgroup_root=holder.cgroup_root
            )
        found.setdefault(layout, set()).add(uid)
    return found


def _reap_pods(options: NodeOptions, cgroups: Cgroups | None, uids: Collection[str]) -> list[str]:
    """The kubelet side's part: volumes, the pod's cgroup, logs, and its file, last."""
    reaped = []
    for uid in uids:
        directory = f"{options.layout.pods_dir}/{uid}"
        if not os.path.exists(f"{directory}/{LOCK}") or _has_record(options, uid):
            continue
        lock = FileLock(f"{directory}/{LOCK}")
        try:
            if not lock.acquire(wait=False):
                continue
        except FileNotFoundError:
            continue
        try:
            pod = read_pod(f"{directory}/{NAME}")
        except (OSError, ValueError):
            pod = None
        try:
            endpoint = read_holder(directory)[0].runtime_endpoint
            if endpoint:
                remove_sandboxes(endpoint, uid)
            clean_up_pod(options, uid, pod, cgroups)
        except (OSError, CgroupError, PodliteError) as error:
            log.warning("a pod that was left behind cannot be removed", uid=uid, why=explain(error))
            continue
        finally:
            lock.release()
        reaped.append(f"{pod.metadata.namespace}/{pod.metadata.name}" if pod is not None else uid)
    return reaped


def _has_record(options: NodeOptions, uid: str) -> bool:
    """Whether something of the runtime's part is still there, which has to go first."""
    pods_dir = options.layout.pods_dir
    names = [name for name in os.listdir(pods_dir) if name.partition(".")[0] == uid]
    return any(os.path.exists(f"{pods_dir}/{name}/{RECORD}") for name in names)
