"""What a shim has of its pod: what it was told, the namespaces that it holds, and the containers.

Standard library only: the shim runs this.
"""

from __future__ import annotations

import os
import signal
import stat
import time

from podlite import steps
from podlite.linux.process import set_title, signal_child
from podlite.runtime.shim import pod_namespaces
from podlite.runtime.shim.container import RUNNING, STARTING
from podlite.runtime.shim.fork import HOST_PID_NAMESPACE, NEW_PID_NAMESPACE, Forker
from podlite.runtime.shim.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podlite.runtime.shim.container import Container
    from podlite.runtime.shim.init import Stdio
    from podlite.runtime.shim.protocol import Message

# How long the last of the children may take to die after SIGKILL before the shim goes on without them.
LAST_SECONDS = 1.0


class Refused(Exception):
    """A request that cannot be carried out; its text is the answer."""


class NotRunning(Refused):
    """The container that it is about does not run, or not any more."""

    def __init__(self, container: Container) -> None:
        super().__init__(f"container {container.id} is not running")


class Pod:
    """`config` is the message `fork`, `directory` a descriptor of the pod's in the run directory."""

    def __init__(self, config: Message, directory: int, scratch: str) -> None:
        self.config = config
        self.ids: dict[str, str] = {"pod": config["pod"], "sandbox_id": config["sandbox_id"]}
        self.directory = directory
        self.scratch = scratch
        self.loop = Loop()
        self.forker = Forker()
        self.namespaces: dict[str, int] = {}
        self.containers: dict[str, Container] = {}
        self.shm = ""
        self.pause_pid = 0
        self._holder: pod_namespaces.UserNamespace | None = None

    def set_up(self) -> int:
        """Makes what the containers share; the pid of who holds the network namespace until it is pinned, or 0.

        Raises OSError.
        """
        config, ids = self.config, self.config["ids"]
        own = {"ipc": config["ipc"], "uts": config["uts"], "hostname": config["hostname"]}
        if not ids:
            self.namespaces.update(pod_namespaces.create(**own))
            if config["sysctls"]:
                pod_namespaces.write_sysctls(self.namespaces["ipc"], config["sysctls"])
        else:
            self._holder = pod_namespaces.create_with_user_namespace(
                ids["uids"], ids["gids"], network=ids["network"], sysctls=config["sysctls"], **own
            )
            self.namespaces.update(self._holder.namespaces)
            self.forker.user_namespace = self.namespaces["user"]
        self.shm = pod_namespaces.create_shared_memory(self.scratch, config["shm_size"])
        return self._holder.pid if self._holder is not None else 0

    def join(self, namespaces: dict[str, int]) -> None:
        """Takes over the descriptors of namespaces that others have made for the pod."""
        if self._holder is not None:
            self._holder.release()
        for name, fd in namespaces.items():
            old, self.namespaces[name] = self.namespaces.get(name, -1), fd
            if old >= 0:
                os.close(old)

    def assign(self, identity: Message, orphan: str) -> None:
        """A spare sandbox has become a pod's. Raises OSError."""
        self.config.update(identity, orphan=orphan)
        self.ids = {"pod": self.config["pod"], "sandbox_id": self.config["sandbox_id"]}
        set_title(f"podlite: shim {self.config['pod']}")
        pod_namespaces.set_hostname(self.namespaces["uts"], self.config["hostname"])

    # --- containers ---------------------------------------------------------------------------

    def find(self, message: Message) -> Container:
        """The container that a request is about. Raises Refused for one that was not started here."""
        container = self.containers.get(message["container"])
        if container is None:
            raise Refused(f"container {message['container']} is not known to its pod's shim")
        return container

    def busy(self) -> bool:
        """Whether there is a container that has not ended."""
        return any(each.state in (STARTING, RUNNING) for each in self.containers.values())

    def kill(self, container: Container) -> None:
        """SIGKILL to all of a container's processes, if it has not ended."""
        if container.state in (STARTING, RUNNING) and container.wait_status is None:
            signal_child(container.pid, signal.SIGKILL)
            container.kill()

    def hand_over(self, stdio: Stdio) -> None:
        """Gives the pipes to the root of the pod's user namespace, which gives them to the container's user."""
        if not self.config["ids"]:
            return
        for fd in (stdio.stdin, stdio.stdout, stdio.stderr):
            if fd >= 0 and stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.fchown(fd, *self.config["ids"]["root"])

    # --- pid namespaces -----------------------------------------------------------------------

    def pid_namespace(self, wanted: str) -> int:
        """What `pid_namespace` of a start means: one of the two constants, or a descriptor to enter.

        Raises OSError, Refused.
        """
        if wanted == "container":
            return NEW_PID_NAMESPACE
        if wanted == "host":
            return HOST_PID_NAMESPACE
        if wanted == "pod":
            if not self.pause_pid:
                with steps.step("shim.pause", **self.ids):
                    joinable = {name: fd for name, fd in self.namespaces.items() if name != "pid"}
                    self.pause_pid = pod_namespaces.start_pause(
                        joinable, self.config["pause_cgroups"], self.scratch, self.forker
                    )
                    self.namespaces["pid"] = os.open(f"/proc/{self.pause_pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            return self.namespaces["pid"]
        target = self.containers.get(wanted)
        if target is None or target.state != RUNNING:
            raise Refused(f"the target container {wanted} is not running, so its pid namespace cannot be joined")
        return target.pidfd

    def pause_ended(self) -> bool:
        """Whether the pod's pid 1 has died, or does so while it is waited for; it is reaped then."""
        deadline = time.monotonic() + LAST_SECONDS
        while self.pause_pid and os.waitpid(self.pause_pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        self.forget_pause()
        return True

    def forget_pause(self) -> None:
        """The pod's pid 1 has been reaped: the next container that wants one gets another. Idempotent."""
        if self.pause_pid:
            self.pause_pid = 0
            os.close(self.namespaces.pop("pid"))
