"""The pods of this machine as the commands see them: found in the run directory, by what a person calls them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podlite.errors import PodliteError, PrivilegeError
from podlite.kubelet.written_pods import WrittenPod, find_pods

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.kubelet.types import KubeletConfig

# The shortest beginning of a UID that is taken for one.
_SHORTEST_UID = 4
KINDS = ("pod", "pods", "po")
# KEP-2227: which container `kubectl exec` and `kubectl logs` mean when none is named.
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


class PodNotFoundError(PodliteError):
    """No pod is called that."""


def every_pod(run_dir: str) -> list[WrittenPod]:
    """All pods, by namespace and name. Blocking. Raises PrivilegeError."""
    try:
        found = find_pods(run_dir)
    except PermissionError as error:
        raise PrivilegeError(
            f"the pods of this machine are only for root to see: {error.filename}", hint="run podlite as root"
        ) from None
    return sorted(found, key=lambda each: (each.pod.metadata.namespace, each.pod.metadata.name, _created(each)))


def _created(found: WrittenPod) -> str:
    return found.pod.metadata.creation_timestamp or ""


def find_pod(run_dir: str, word: str, namespace: str = "") -> WrittenPod:
    """The one pod that `word` means. Blocking. Raises PodNotFoundError, PodliteError."""
    return choose(every_pod(run_dir), word, namespace)


def choose(pods: Iterable[WrittenPod], word: str, namespace: str = "") -> WrittenPod:
    """The one of `pods` that `word` means; among several of a name, the only one that has not ended. Pure.

    Raises PodNotFoundError, and PodliteError for a word that more than one pod answers to.
    """
    found = matching(pods, word, namespace)
    if not found:
        where = f' in namespace "{namespace}"' if namespace else ""
        raise PodNotFoundError(f'pods "{word}" not found{where}', hint="`podlite ps -a` lists the pods there are")
    living = [each for each in found if each.held and each.pod.status.phase not in ("Succeeded", "Failed")]
    if len(found) > 1 and len(living) != 1:
        listed = ", ".join(each.pod.metadata.uid for each in found)
        raise PodliteError(f'{len(found)} pods are called "{word}"', hint=f"say which by its uid: {listed}")
    return found[0] if len(found) == 1 else living[0]


def matching(pods: Iterable[WrittenPod], word: str, namespace: str = "") -> list[WrittenPod]:
    """The pods that `word` fits: NAME, NAMESPACE/NAME, pod/NAME, a UID or its beginning. Pure.

    A name goes before the beginning of a UID, and a namespace that is really called `pod` before the kind.
    """
    pods = [each for each in pods if namespace in ("", each.pod.metadata.namespace)]
    space, slash, name = word.rpartition("/")
    if slash:
        found = [each for each in pods if (each.pod.metadata.namespace, each.pod.metadata.name) == (space, name)]
        if found or space not in KINDS:
            return found
    found = [each for each in pods if each.pod.metadata.name == name]
    if found or len(name) < _SHORTEST_UID:
        return found
    return [each for each in pods if each.pod.metadata.uid.startswith(name)]


def selected(pods: Iterable[WrittenPod], selector: str, namespace: str = "") -> list[WrittenPod]:
    """The pods of a namespace, or of all, that have the labels. Pure. Raises PodliteError for what is no selector."""
    from podlite.agent.api.selectors import label_selector

    matches = label_selector(selector)
    found = [each for each in pods if namespace in ("", each.pod.metadata.namespace)]
    return [each for each in found if matches(each.pod.metadata.labels)]


def full_name(pod: Pod) -> str:
    """`namespace/name`."""
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def ended(found: WrittenPod) -> bool:
    """Whether the pod is over in good order."""
    return not found.orphaned and found.pod.status.phase in ("Succeeded", "Failed")


def kubelet_config(found: WrittenPod) -> KubeletConfig:
    """The directories that the pod's own podlite uses, whatever ours are."""
    from podlite.kubelet.types import KubeletConfig

    holder = found.holder
    return KubeletConfig(state_dir=holder.state_dir, log_dir=holder.log_dir, cgroup_root=holder.cgroup_root)


# --- containers ------------------------------------------------------------------------------


def choose_container(pod: Pod, name: str = "", *, quiet: bool = False) -> str:
    """The container that is meant: the named one, the one of the annotation, or the first, which is said.

    Raises PodliteError for a name that no container has.
    """
    wanted = name or pod.metadata.annotations.get(DEFAULT_CONTAINER, "")
    names = [each.name for each in containers(pod)]
    if wanted:
        if wanted not in names:
            raise PodliteError(f"container {wanted} is not valid for pod {pod.metadata.name} out of: {_list(pod)}")
        return wanted
    first = pod.spec.containers[0].name
    if len(names) > 1 and not quiet:
        from podlite.cli import terminal

        terminal.note(f'Defaulted container "{first}" out of: {_list(pod)}')
    return first


def containers(pod: Pod) -> list[Container]:
    """Init, app and ephemeral containers."""
    return [*pod.spec.init_containers, *pod.spec.containers, *pod.spec.ephemeral_containers]


def _list(pod: Pod) -> str:
    spec = pod.spec
    return ", ".join(
        [
            *(each.name for each in spec.containers),
            *(f"{each.name} (ephem)" for each in spec.ephemeral_containers),
            *(f"{each.name} (init)" for each in spec.init_containers),
        ]
    )


# --- command line ------------------------------------------------------------------------------


def add_pod(parser: argparse.ArgumentParser) -> None:
    """The pod that a command is about, and its container."""
    parser.add_argument("pod", metavar="POD", help="NAME, NAMESPACE/NAME, or a uid or the beginning of one")
    add_namespace(parser)


def add_namespace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--namespace", metavar="NAME", default="", help="only pods of this namespace")


def add_selector(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-l", "--selector", metavar="LABELS", default="", help="the pods with these labels: a=b,c!=d")


def run_dir(arguments: argparse.Namespace) -> str:
    """The run directory, absolute."""
    path: str = arguments.run_dir
    return os.path.abspath(path)
