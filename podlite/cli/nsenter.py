"""podlite nsenter: a program of the host in a pod's namespaces; with --mnt also in what an ended pod has left."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from podlite.cli import options, pods, terminal
from podlite.cli.guest import Visit, running_container, sandbox_directories
from podlite.errors import PodliteError, UsageError, explain

if TYPE_CHECKING:
    from typing import NoReturn

    from podlite.kubelet.written_pods import WrittenPod
    from podlite.runtime.spawner import Launched

WORDS_BEFORE_COMMAND = 1

_HELP = {
    "net": "the pod's network",
    "ipc": "its System V IPC and message queues",
    "uts": "its hostname",
    "user": "its users, where it has its own",
    "mnt": "a container's file systems",
    "pid": "a container's processes (ps reads /proc: add --mnt)",
    "cgroup": "a container's view of its cgroup",
}
_DEFAULT = ("net", "ipc", "uts")
# These the pod has, and its shim holds; the others are a container's.
_OF_POD = ("user", "net", "ipc", "uts")
_EPILOG = """Without any of these: --net --ipc --uts. Without a command: $SHELL.

The command is looked for on the host, before anything is entered, and so is there in an image without a shell.
With --mnt it still runs as the host's file, but finds its libraries in the container: a dynamically linked program
needs an image that has them (busybox-static has none to find). What is not on the host is looked for in the container.

With --mnt an ended pod (run --keep) can be entered too: the root file system that its container left, read-only.

Exit status: the command's; 126 if it cannot be executed, 127 if it was not found, 125 if podlite cannot do it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite nsenter`."""
    parser.usage = "podlite nsenter POD [-c NAME] [--net --mnt ... | --all] [--] [COMMAND [ARGUMENT...]]"
    parser.epilog = _EPILOG
    pods.add_pod(parser)
    parser.add_argument("-c", "--container", metavar="NAME", default="", help="the container (the first one)")
    group = parser.add_argument_group("namespaces")
    for name, text in _HELP.items():
        group.add_argument(f"--{name}", action="store_true", help=text)
    group.add_argument("--all", action="store_true", help="all of them")
    options.add_directories(parser, "run-dir")


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Becomes the command; returns an exit status where that cannot be, or must not."""
    wanted = [name for name in _HELP if arguments.all or getattr(arguments, name)] or [*_DEFAULT]
    command: list[str] = arguments.command or [os.environ.get("SHELL") or "/bin/sh"]
    if not command[0]:
        raise UsageError("the command is empty")
    found = pods.find_pod(pods.run_dir(arguments), arguments.pod, arguments.namespace)
    program = Program(command)
    if found.pod.status.phase in ("Succeeded", "Failed") or found.orphaned:
        _enter_leftover(found, arguments.container, wanted, explicit=not arguments.all)
        return program.execute()
    opened = _open_namespaces(found, arguments.container, wanted)
    if "mnt" in opened and "pid" not in opened and program.is_script():
        # Its interpreter gets it as /dev/fd/N, which the container's /proc knows for its own processes only.
        raise PodliteError(f"{command[0]} is a script, which cannot be read from in there", hint="add --pid")
    _enter(found, opened)
    return _in_child(program) if "pid" in opened else program.execute()


class Program:
    """A program found on the host, and held open: a container's file systems do not hide it."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._fd = -1
        name = command[0]
        places = [name] if "/" in name else [f"{each or '.'}/{name}" for each in os.get_exec_path()]
        for path in places:
            if os.path.isfile(path) and os.access(path, os.X_OK):
                # Stays open over execve: the interpreter of a script reads it as /dev/fd/N.
                self._fd = os.open(path, os.O_RDONLY)
                os.set_inheritable(self._fd, True)
                return

    def is_script(self) -> bool:
        """Whether it needs an interpreter that its first line names."""
        return self._fd >= 0 and os.pread(self._fd, 2, 0) == b"#!"

    def execute(self) -> int:
        """Becomes the program. Returns the exit status of a shell where that cannot be."""
        sys.stdout.flush()
        name = self._command[0]
        try:
            if self._fd >= 0:
                os.execve(self._fd, self._command, os.environ)
            os.execvp(name, self._command)
        except FileNotFoundError:
            if self._fd >= 0:
                terminal.error(
                    f"{name}: the loader or interpreter that it needs is not in the container",
                    hint="a statically linked program needs none: `busybox` of the package busybox-static",
                )
                return 127
            terminal.error(f"{name} is neither on the host nor in the container")
            return 127
        except OSError as error:
            terminal.error(f"{name} cannot be executed: {error.strerror}")
            return 126


def _open_namespaces(found: WrittenPod, container: str, wanted: list[str]) -> dict[str, int]:
    """Name → descriptor, of those that are not our own already. Raises PodliteError."""
    if found.holder.runtime_endpoint:
        opened = _open_of_another_runtime(found, container, wanted)
        return {name: fd for name, fd in opened.items() if not _is_ours(name, fd)}
    opened = {}
    with Visit(found) as shim:
        answer, fds = shim.ask({"m": "namespaces"})
        held = dict(zip(answer["names"], fds, strict=True))
        opened.update({name: held[name] for name in wanted if name in _OF_POD and name in held})
        rest = [name for name in wanted if name not in _OF_POD]
        if rest:
            name = pods.choose_container(found.pod, container)
            id = running_container(found, name)
            pid = shim.running().get(id, 0)
            try:
                opened.update({each: os.open(f"/proc/{pid}/ns/{each}", os.O_RDONLY | os.O_CLOEXEC) for each in rest})
            except FileNotFoundError:
                pid = 0
            # Still the same process: nobody else has got its number meanwhile.
            if not pid or shim.running().get(id) != pid:
                raise PodliteError(f"container {name} of pod {pods.full_name(found.pod)} has just ended")
    return {name: fd for name, fd in opened.items() if not _is_ours(name, fd)}


def _open_of_another_runtime(found: WrittenPod, container: str, wanted: list[str]) -> dict[str, int]:
    """All of them by the process of a container, which is in its pod's, too. Raises PodliteError.

    A child asks: gRPC has threads, and a process with threads enters no user or mount namespace (setns(2)).
    """
    import array
    import socket

    from podlite.agent.foreign_runtime import require_grpc_for

    require_grpc_for(found)
    name = pods.choose_container(found.pod, container)
    id = running_container(found, name)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        child = os.fork()
        if child == 0:
            text, fds = b"the runtime could not be asked", []
            try:
                fds, text = _ask_for_namespaces(found, id, wanted), b""
            except (PodliteError, OSError) as error:
                text = explain(error).encode()
            finally:
                ours.close()
                socket.send_fds(theirs, [b"." + text], fds)
                os._exit(0)
        theirs.close()
        said, ancillary, _, _ = ours.recvmsg(65536, socket.CMSG_SPACE(4 * len(wanted)), socket.MSG_CMSG_CLOEXEC)
        os.waitpid(child, 0)
    if said != b".":
        raise PodliteError(said[1:].decode("utf-8", "replace") or "the runtime could not be asked")
    received = array.array("i")
    received.frombytes(ancillary[0][2])
    return dict(zip(wanted, received, strict=True))


def _ask_for_namespaces(found: WrittenPod, id: str, wanted: list[str]) -> list[int]:
    """Descriptors of a container's namespaces, in the order asked for. Raises PodliteError, OSError."""
    from podlite.rpc.blocking import BlockingRuntime

    with BlockingRuntime(found.holder.runtime_endpoint) as runtime:
        pid = runtime.container_pid(id)
        try:
            opened = [os.open(f"/proc/{pid}/ns/{each}", os.O_RDONLY | os.O_CLOEXEC) for each in wanted if pid]
        except FileNotFoundError:
            pid = 0
        # Still the same process: nobody else has got its number meanwhile.
        if not pid or runtime.container_pid(id) != pid:
            raise PodliteError(
                f"a container of pod {pods.full_name(found.pod)} has just ended, or its runtime does not say which "
                "process it is"
            )
        return opened


def _is_ours(name: str, fd: int) -> bool:
    """A pod of hostNetwork, hostPID … has the host's, and entering one's own user namespace is an error."""
    here, there = os.stat(f"/proc/self/ns/{name}"), os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _enter(found: WrittenPod, opened: dict[str, int]) -> None:
    """The user namespace first, which gives the rights for the others; the file systems last. Raises PodliteError."""
    from podlite.linux.syscalls import setns

    for name in ("user", "cgroup", "ipc", "uts", "net", "pid", "mnt"):
        if name in opened:
            try:
                setns(opened[name], 0)
            except OSError as error:
                raise PodliteError(
                    f"the {name} namespace of pod {pods.full_name(found.pod)} cannot be entered: {explain(error)}"
                ) from error
    if "user" in opened:
        os.setgid(0)
        os.setgroups([])
        os.setuid(0)


def _in_child(program: Program) -> int:
    """A pid namespace is entered by children only (setns(2)): starts one, stands by, and returns its exit status."""
    import signal

    child = os.fork()
    if child == 0:
        _execute_or_exit(program)
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # the terminal sends them to the child too
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: os.kill(child, number))
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            # Ctrl-Z stops us with it, and `fg` goes on with both.
            os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(child, signal.SIGCONT)
            continue
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code


def _execute_or_exit(program: Program) -> NoReturn:
    code = 125
    try:
        code = program.execute()
        sys.stderr.flush()
    finally:
        os._exit(code)


# --- ended pods ---------------------------------------------------------------------------------


def _enter_leftover(found: WrittenPod, container: str, wanted: list[str], *, explicit: bool) -> None:
    """Makes what an ended container has left our root. Raises PodliteError."""
    name = pods.full_name(found.pod)
    if "mnt" not in wanted or (explicit and wanted != ["mnt"]):
        raise PodliteError(
            f"pod {name} has ended, and its namespaces with it", hint="its files are still there: --mnt, and no other"
        )
    from podlite.linux.syscalls import CLONE_NEWNS, MS_PRIVATE, MS_REC, mount, unshare
    from podlite.runtime.container.leftover import enter_root, record_containers
    from podlite.runtime.image.store import ImageStore

    wanted_name = pods.choose_container(found.pod, container)
    for directory in sandbox_directories(found):
        for each in reversed(record_containers(directory)):
            if each["config"]["metadata"]["name"] == wanted_name and "image_id" in each:
                unshare(CLONE_NEWNS)
                mount(None, "/", None, MS_REC | MS_PRIVATE)
                return enter_root(ImageStore(f"{found.holder.state_dir}/images"), each)
    raise PodliteError(f"nothing is left of container {wanted_name} of pod {name}")
