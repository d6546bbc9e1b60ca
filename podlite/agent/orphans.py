"""What killed podlites left behind: the runtime's part by its records, then the kubelet side's by the pods' files."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from podlite import log
from podlite.agent.node import NodeOptions, make_network
from podlite.errors import PodliteError, explain
from podlite.kubelet.pod_json import NAME as POD_JSON
from podlite.kubelet.pod_json import read_pod
from podlite.linux.cgroups import CgroupError, Cgroups
from podlite.runtime.image.store import ImageStore
from podlite.runtime.journal import FILE as RECORD
from podlite.runtime.locks import FileLock
from podlite.runtime.reaper import POD_LOCK, Reaper

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.runtime.network.interface import PodNetwork


def reap_orphans(options: NodeOptions, network: PodNetwork, cgroups: Cgroups | None) -> list[str]:
    """Tears down every pod without an owner; returns them as `namespace/name`. Blocking. Problems are logged."""
    made: dict[str, PodNetwork] = {network.name: network}

    def networks(name: str) -> PodNetwork | None:
        if name not in made:
            try:
                made[name] = make_network(name, options)
            except PodliteError:
                return None
        return made[name]

    def problem(text: str) -> None:
        log.warning(text)

    reaper = Reaper(options.layout, networks, ImageStore(options.layout.images_dir), cgroups, problem)
    reaped = reaper.reap()
    reaped += [pod for pod in _reap_pods(options, cgroups) if pod not in reaped]
    for each in made.values():
        if each is not network:
            each.release_unused()
            each.close()
    return reaped


def _reap_pods(options: NodeOptions, cgroups: Cgroups | None) -> list[str]:
    """The kubelet side's part: volumes, the pod's cgroup, logs, and its file, last."""
    reaped = []
    try:
        uids = os.listdir(options.layout.pods_dir)
    except FileNotFoundError:
        return []
    for uid in uids:
        directory = f"{options.layout.pods_dir}/{uid}"
        if not os.path.exists(f"{directory}/{POD_LOCK}") or os.path.exists(f"{directory}/{RECORD}"):
            continue
        lock = FileLock(f"{directory}/{POD_LOCK}")
        try:
            if not lock.acquire(wait=False):
                continue
        except FileNotFoundError:
            continue
        try:
            pod = read_pod(f"{directory}/{POD_JSON}")
        except (OSError, ValueError):
            pod = None
        try:
            clean_up_pod(options, uid, pod, cgroups)
        except (OSError, CgroupError, PodliteError) as error:
            log.warning("a pod that was left behind cannot be removed", uid=uid, why=explain(error))
            continue
        finally:
            lock.release()
        reaped.append(f"{pod.metadata.namespace}/{pod.metadata.name}" if pod is not None else uid)
    return reaped


def clean_up_pod(options: NodeOptions, uid: str, pod: Pod | None, cgroups: Cgroups | None) -> None:
    """Removes all that the kubelet side keeps of a pod; idempotent. Blocking.

    Raises OSError, CgroupError, PodliteError; the pod's file stays then, for another attempt.
    """
    from podlite.agent.node import kubelet_config
    from podlite.kubelet.pod_files import remove_pod_directory

    config = kubelet_config(options)
    remove_pod_directory(config, uid)
    if cgroups is not None:
        for qos in ("Guaranteed", "Burstable", "BestEffort"):
            path = cgroups.pod_path(qos, uid)
            cgroups.remove(path)
            cgroups.remove_empty_parents(path)
    if pod is not None and not options.keep_logs:
        meta = pod.metadata
        shutil.rmtree(f"{options.layout.log_dir}/{meta.namespace}_{meta.name}_{uid}", ignore_errors=True)
    directory = f"{options.layout.pods_dir}/{uid}"
    for name in (POD_JSON, f".{POD_JSON}", POD_LOCK):
        try:
            os.unlink(f"{directory}/{name}")
        except FileNotFoundError:
            pass
    try:
        os.rmdir(directory)
    except OSError:
        pass
