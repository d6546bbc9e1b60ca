"""podlite rm: ends pods and removes them, those of other processes through their shims."""

from __future__ import annotations

import argparse
import os
import select
import time
from typing import TYPE_CHECKING

from podlite.cli import options, pods, terminal, values
from podlite.cli.guest import NoShimError, Visit
from podlite.errors import PodliteError, UsageError
from podlite.kubelet.written_pods import read_holder

if TYPE_CHECKING:
    from podlite.kubelet.written_pods import WrittenPod
    from podlite.runtime.spawner import Launched

# How long a pod that is just being started is waited for until it can be told.
_SHIM_SECONDS = 5.0
# Between two looks, should a change of the directory be missed.
_PERIOD_MS = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite rm`."""
    parser.add_argument("pods", metavar="POD", nargs="*", help="NAME, NAMESPACE/NAME, or a uid or the beginning of one")
    pods.add_namespace(parser)
    parser.add_argument("--all", action="store_true", help="all pods, the kept ones too")
    parser.add_argument("-f", "--force", action="store_true", help="kill at once; a pod that is not there is no error")
    parser.add_argument(
        "--grace-period", type=_grace, metavar="SECONDS", default=-1, help="the time to end in (the pod's own)"
    )
    parser.add_argument(
        "--wait",
        type=values.truth,
        nargs="?",
        const=True,
        default=True,
        metavar="true|false",
        help="return when nothing is left of the pods (true)",
    )
    options.add_directories(parser)


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Removes the pods; returns the exit status."""
    if bool(arguments.pods) == arguments.all:
        raise UsageError("there is nothing to remove" if not arguments.all else "--all and names exclude each other")
    removal = Removal(arguments)
    for each in _selected(arguments):
        removal.begin(each)
    options.reap_orphans(arguments)
    if arguments.wait:
        removal.wait()
    return 1 if removal.failed else 0


def _selected(arguments: argparse.Namespace) -> list[WrittenPod]:
    every = pods.every_pod(pods.run_dir(arguments))
    if arguments.all:
        return [each for each in every if arguments.namespace in ("", each.pod.metadata.namespace)]
    found: list[WrittenPod] = []
    for word in arguments.pods:
        try:
            found.append(pods.choose(every, word, arguments.namespace))
        except pods.PodNotFoundError:
            if not arguments.force:
                raise
    return found


class Removal:
    """Pods on their way out. What cannot be removed is said, and the others go on."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._options = options.node_options(arguments)
        self._grace = 0 if arguments.force else arguments.grace_period
        self._told: list[WrittenPod] = []
        self._untold: list[WrittenPod] = []
        self.failed = False

    def begin(self, found: WrittenPod) -> None:
        """Tells the pod's owner, or removes what has none."""
        if not found.held:
            self._remove(found)
            return
        try:
            self._tell(found)
            self._told.append(found)
        except NoShimError:
            self._untold.append(found)
        except PodliteError as error:
            self._fail(error)

    def wait(self) -> None:
        """Returns when the pods are gone, or it is certain that they will not."""
        from podlite.linux import inotify

        watch = inotify.init()
        try:
            inotify.add_watch(watch, self._options.layout.pods_dir, inotify.IN_DELETE)
            poll = select.poll()
            poll.register(watch, select.POLLIN)
            while self._told or self._untold:
                self._told = [each for each in self._told if not self._is_gone(each)]
                # What cannot be told ends with its process, and that ends when its last pod does.
                ending = {each.holder.pid for each in self._told}
                for each in [each for each in self._untold if each.holder.pid not in ending]:
                    if not self._is_gone(each):
                        self._cannot_tell(each)
                    self._untold.remove(each)
                if self._told:
                    poll.poll(_PERIOD_MS)
                    inotify.read_events(watch)
        except FileNotFoundError:
            pass  # there is no pod any more, not even the directory
        finally:
            os.close(watch)

    def _tell(self, found: WrittenPod) -> None:
        deadline = time.monotonic() + _SHIM_SECONDS
        starting = found.pod.status.phase not in ("Succeeded", "Failed")
        while True:
            try:
                with Visit(found) as shim:
                    shim.ask({"m": "delete", "grace": self._grace})
                return
            except NoShimError:
                if not starting or time.monotonic() > deadline or self._is_gone(found):
                    raise
                time.sleep(0.05)

    def _is_gone(self, found: WrittenPod) -> bool:
        """True when nothing is left; of a process that was killed meanwhile, the rest is removed here."""
        if not os.path.exists(f"{found.directory}/pod.json"):
            self._say(found)
            return True
        if not read_holder(found.directory)[1] and os.path.exists(f"{found.directory}/pod.json"):
            self._remove(found)
            return True
        return False

    def _remove(self, found: WrittenPod) -> None:
        from podlite.agent.orphans import reap_orphans

        try:
            with Visit(found) as shim:
                shim.ask({"m": "shutdown"})  # one that waits for an agent would wait on
        except NoShimError:
            pass  # nor has a pod on another runtime one: it is removed from there
        reap_orphans(self._options, only=[found.pod.metadata.uid])
        if os.path.exists(f"{found.directory}/pod.json"):
            self._fail(PodliteError(f"pod {pods.full_name(found.pod)} cannot be removed; the log above says why"))
        else:
            self._say(found)

    def _cannot_tell(self, found: WrittenPod) -> None:
        name = pods.full_name(found.pod)
        self._fail(
            PodliteError(
                f"pod {name} has nobody that listens for it now, so the process that runs it cannot be told"
                if found.holder.runtime_endpoint
                else f"pod {name} has no sandbox now, so the process that runs it cannot be told",
                hint=f"it ends with that process: `kill {found.holder.pid}`",
            )
        )

    def _fail(self, error: PodliteError) -> None:
        self.failed = True
        terminal.error(error.message, hint=error.hint)

    @staticmethod
    def _say(found: WrittenPod) -> None:
        print(f'pod "{found.pod.metadata.name}" deleted from {found.pod.metadata.namespace} namespace', flush=True)


def _grace(text: str) -> int:
    """As kubectl: -1 stands for the pod's own."""
    value = values.whole(text)
    if value < -1:
        raise argparse.ArgumentTypeError(f"{text} is too small: it must be at least 0, or -1 for the pod's own")
    return value
