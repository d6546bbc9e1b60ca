"""podlite prune: removes what ended and killed podlites have left behind, and says what that freed."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from podlite.cli import options, pods, terminal
from podlite.cli.table import human_size
from podlite.errors import PodliteError, explain

if TYPE_CHECKING:
    from podlite.agent.node import NodeOptions
    from podlite.kubelet.written_pods import WrittenPod
    from podlite.runtime.spawner import Launched

_EPILOG = """Removed are: pods whose podlite was killed; what pods of an earlier boot have left on disk, their
logs too; with --all pods that have ended and were kept (run --keep); with --images images that no container uses.
What runs, and what somebody else runs, is never touched. --cni-gc is for machines on which podlite alone uses the CNI
networks: it tells their plugins (GC, CNI 1.1) to free all that belongs to none of podlite's pods.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite prune`."""
    parser.epilog = _EPILOG
    parser.add_argument("-a", "--all", action="store_true", help="also ended pods that were kept")
    parser.add_argument("--images", action="store_true", help="also images that no container uses")
    parser.add_argument(
        "--cni-gc", action="store_true", help="also what CNI plugins keep for no pod; only if nobody else uses them"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    options.add_network_details(parser)
    options.add_directories(parser)


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Removes, and says what; returns the exit status."""
    prune = Prune(options.node_options(arguments), dry_run=arguments.dry_run)
    prune.pods(kept=arguments.all)
    prune.leftovers()
    if arguments.images:
        prune.images()
    if arguments.cni_gc:
        prune.cni()
    prune.summary()
    return 1 if prune.failed else 0


class Prune:
    """One run over everything; sizes are bytes of disk."""

    def __init__(self, node: NodeOptions, *, dry_run: bool) -> None:
        self._node = node
        self._dry_run = dry_run
        self._count = 0
        self._freed = 0
        self.failed = False

    def pods(self, *, kept: bool) -> None:
        """Orphans, and the kept pods if asked for."""
        from podlite.agent.orphans import orphans, reap_orphans

        written = {each.pod.metadata.uid: each for each in pods.every_pod(self._node.layout.run_dir)}
        chosen = {uid: f"pod {_name(written.get(uid), uid)}, whose podlite was killed" for uid in orphans(self._node)}
        if kept:
            chosen |= {
                uid: f"pod {pods.full_name(each.pod)}, which had ended"
                for uid, each in written.items()
                if each.kept and not each.held
            }
        for uid, text in chosen.items():
            size = _size(written[uid]) if uid in written else 0
            if not self._dry_run:
                reap_orphans(self._node, only=[uid])
                if os.path.exists(f"{self._node.layout.pods_dir}/{uid}"):
                    self._fail(f"{text}, cannot be removed; the log above says why")
                    continue
            self._say(text, size)

    def leftovers(self) -> None:
        """What an earlier boot has left."""
        from podlite.agent.leftovers import disk_usage, find_leftovers, remove_leftovers

        layout = self._node.layout
        found = find_leftovers(layout)
        paths = [*(f"{layout.state_dir}/pods/{uid}" for uid in found.pods), *found.logs, *found.layers]
        sizes = {path: disk_usage(path) for path in paths}
        if not self._dry_run:
            try:
                remove_leftovers(self._node, found)
            except (OSError, PodliteError) as error:
                self._fail(f"what an earlier boot has left cannot be removed: {explain(error)}")
        for path, size in sizes.items():
            if self._dry_run or not os.path.exists(path):
                self._say(f"{path}, of an earlier boot", size)

    def images(self) -> None:
        """Images that nothing uses, and what interrupted loads have left in the store."""
        from podlite.cli.image import unused_images
        from podlite.runtime.image.store import ImageStore

        store = ImageStore(self._node.layout.images_dir)
        for image in unused_images(store):
            before = store.usage().bytes
            if not self._dry_run:
                store.remove(image.record.id)
            freed = before - store.usage().bytes if not self._dry_run else image.record.size
            self._say(f"image {', '.join(image.names) or image.record.id}", freed)
        if not self._dry_run:
            store.collect()

    def cni(self) -> None:
        """GC of CNI 1.1: each plugin frees what belongs to none of our pods."""
        from podlite.agent.node import make_networks

        if self._dry_run:
            return  # a plugin cannot be asked what it would do
        networks = make_networks(self._node)
        try:
            for problem in networks.cni().collect_garbage():
                self._fail(problem)
        finally:
            networks.close()

    def summary(self) -> None:
        """The last line."""
        if not self._count:
            print("Nothing to remove.")
        elif self._dry_run:
            print(f"This would free {human_size(self._freed)}.")
        else:
            print(f"Freed {human_size(self._freed)}.")

    def _say(self, text: str, size: int) -> None:
        self._count += 1
        self._freed += size
        print(f"{'would remove' if self._dry_run else 'removed'} {text} ({human_size(size)})", flush=True)

    def _fail(self, text: str) -> None:
        self.failed = True
        terminal.error(text)


def _name(found: WrittenPod | None, uid: str) -> str:
    return pods.full_name(found.pod) if found is not None else uid


def _size(found: WrittenPod) -> int:
    """What a pod has on disk: writable layers, volumes, logs."""
    from podlite.agent.leftovers import disk_usage
    from podlite.cli.guest import sandbox_directories
    from podlite.kubelet.paths import pod_dir, pod_logs_dir
    from podlite.runtime.container.leftover import record_containers

    config = pods.kubelet_config(found)
    total = disk_usage(pod_dir(config, found.pod.metadata.uid)) + disk_usage(pod_logs_dir(config, found.pod))
    for directory in sandbox_directories(found):
        try:
            total += sum(disk_usage(each["writable"]) for each in record_containers(directory))
        except (OSError, ValueError):
            continue
    return total
