"""A pool of ready sandboxes: namespaces, network and shim made ahead, for whoever needs the next one at once.

    spare   a whole sandbox without a pod: recorded, locked, with addresses, like any other; its record has a
            name of its own, so a killed podlite's spares are reaped as its pods are
    claim   RunPodSandbox takes a spare for a pod: the pod goes into the record, the directory gets the pod's name,
            the files and the shim learn who they belong to. Nothing is made.
    refill  one after the other in the background; while somebody claims only if half of the spares are gone, for a
            sandbox in the making takes processor and locks from whoever is in a hurry

What a spare cannot be, because it was made without knowing the pod, is made as always (a miss): a pod with the host's
network or ipc namespace, host ports, sysctls, a user namespace of its own, or a network that looks at the pod.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING

import anyio

from podlite import blocking, log
from podlite.cri.errors import CRIError
from podlite.cri.types import (
    LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext,
    NamespaceMode,
    NamespaceOption,
    PodSandboxConfig,
    PodSandboxMetadata,
)
from podlite.errors import PodliteError, explain
from podlite.runtime.journal import Journal
from podlite.runtime.names import new_uid
from podlite.runtime.sandbox.files import finish_spare_files
from podlite.runtime.store import Sandbox
from podlite.steps import step

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime

# Networks that make the same for every pod: nothing of the pod's is in what they make.
_NETWORKS = ("builtin", "none")
# After a refill that failed: what is wrong is wrong for a while (a full disk, no addresses).
_RETRY_SECONDS = 1.0
# How many refill times are kept, the newest.
_TIMES = 100_000


class WarmPool:
    """The spares of one runtime; used on its event loop. `size` is how many there are to be.

    `hits` and `misses` count the sandboxes that pods asked for; `refill_ns` is how long each spare took to make.
    """

    def __init__(self, runtime: Runtime, size: int) -> None:
        self.size = size
        self.hits = 0
        self.misses = 0
        self.refill_ns: deque[int] = deque(maxlen=_TIMES)
        self._runtime = runtime
        self._spares: deque[Sandbox] = deque()
        self._wanted = anyio.Event()
        self._full = anyio.Event()
        self._claiming = 0
        self._closed = False
        self._idle = anyio.Event()
        self._idle.set()

    def start(self) -> None:
        """Begins to fill it, in a task of the runtime's."""
        self._idle = anyio.Event()
        self._runtime.tasks.start_soon(self._refill, name="warm pool")

    async def resize(self, size: int) -> None:
        """Another number of spares; returns when that many are there. With 0 all are removed."""
        self.size = size
        while len(self._spares) > size:
            await self._discard(self._spares.pop())
        while len(self._spares) < self.size and not self._closed:
            self._full = anyio.Event()
            self._wanted.set()
            await self._full.wait()

    async def close(self) -> None:
        """Removes the spares; what is being made is finished and removed too. Idempotent. Logs what fails."""
        self._closed = True
        self._wanted.set()
        await self._idle.wait()
        while self._spares:
            await self._discard(self._spares.pop())

    async def claim(self, config: PodSandboxConfig, runtime_handler: str) -> Sandbox | None:
        """A spare that has become this pod's sandbox, in the store and ready; None if there is none for it.

        Cancelled or failed, the spare is removed, and its name free. Raises AlreadyExistsError, as a sandbox made new.
        """
        self._claiming += 1
        try:
            spare = self._take(config)
            claimed = spare is not None and await self._claim(spare, config, runtime_handler)
        finally:
            self._claiming -= 1
            self._wanted.set()
        self.hits += claimed
        self.misses += not claimed
        return spare if claimed else None

    async def _claim(self, spare: Sandbox, config: PodSandboxConfig, runtime_handler: str) -> bool:
        store = self._runtime.store
        store.reserve_sandbox(config, spare.id)
        store.release_sandbox(spare.config, spare.id)
        spare.config, spare.runtime_handler, spare.created_at = config, runtime_handler, time.time_ns()
        try:
            with step("sandbox.claim", **spare.ids):
                await blocking.run(_become, self._runtime, spare)
                assert spare.shim is not None
                await spare.shim.assign(spare.ids, _identity(self._runtime, spare), stay=self._runtime.adoptable)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self._discard(spare)
            if isinstance(error, (OSError, PodliteError)):
                # A spare of no use is no reason for the pod to fail.
                log.warning("a spare sandbox could not be claimed", why=explain(error), **spare.ids)
                return False
            raise
        return True

    def _take(self, config: PodSandboxConfig) -> Sandbox | None:
        if not fits(config) or self._runtime.networks.for_pod(config.annotations).name not in _NETWORKS:
            return None
        while self._spares:
            spare = self._spares.popleft()
            if spare.shim is not None and not spare.shim.gone:
                return spare
            self._runtime.tasks.start_soon(self._discard, spare)
        return None

    # --- refilling ----------------------------------------------------------------------------

    async def _refill(self) -> None:
        try:
            while not self._closed:
                enough = self.size // 2 if self._claiming else self.size - 1
                if len(self._spares) > enough:
                    if len(self._spares) >= self.size:
                        self._full.set()
                    self._wanted = anyio.Event()
                    await self._wanted.wait()
                    continue
                begin = time.monotonic_ns()
                try:
                    spare = await self._make()
                except (OSError, PodliteError) as error:
                    log.warning("the pool of ready sandboxes cannot be filled", why=explain(error))
                    with anyio.move_on_after(_RETRY_SECONDS):
                        self._wanted = anyio.Event()
                        await self._wanted.wait()
                    continue
                self.refill_ns.append(time.monotonic_ns() - begin)
                self._spares.append(spare)
        finally:
            self._full.set()
            self._idle.set()

    async def _make(self) -> Sandbox:
        from podlite.runtime.sandbox.run import make_sandbox

        with step("sandbox.spare"):
            return await make_sandbox(self._runtime, spare_config(), "", spare=True)

    async def _discard(self, spare: Sandbox) -> None:
        from podlite.runtime.sandbox.remove import remove_sandbox

        try:
            await remove_sandbox(self._runtime, spare)
        except (OSError, CRIError) as error:
            # Its record is there: the reaper tries again.
            log.error("a spare sandbox is left behind", why=explain(error), **spare.ids)


def fits(config: PodSandboxConfig) -> bool:
    """Whether a spare can become this pod's sandbox, whatever its network. Pure."""
    if config.port_mappings:
        return False
    linux = config.linux
    if linux is None:
        return True
    context = linux.security_context
    options = context.namespace_options if context is not None else None
    if linux.sysctls or options is None:
        return not linux.sysctls
    own_user = options.userns_options is not None and options.userns_options.mode == NamespaceMode.POD
    return options.network == options.ipc == NamespaceMode.POD and not own_user


def spare_config() -> PodSandboxConfig:
    """A sandbox for nobody yet."""
    uid = new_uid()
    options = NamespaceOption(pid=NamespaceMode.CONTAINER)
    return PodSandboxConfig(
        metadata=PodSandboxMetadata(name=f"spare-{uid[:8]}", uid=uid, namespace="podlite"),
        hostname="spare",
        linux=LinuxPodSandboxConfig(security_context=LinuxSandboxSecurityContext(namespace_options=options)),
    )


def _identity(runtime: Runtime, sandbox: Sandbox) -> dict[str, object]:
    """What the shim has to learn of its pod."""
    return {
        **sandbox.ids,
        "hostname": sandbox.config.hostname,
        "pause_cgroups": runtime.pause_cgroups(sandbox),
        "crash_file": f"{sandbox.directory}/shim.crash",
    }


def _become(runtime: Runtime, sandbox: Sandbox) -> None:
    """On disk: first the record, then the directory's name, then the files. Blocking. Raises OSError."""
    directory_fd = os.open(sandbox.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Journal.reopen(directory_fd) as journal:
            claim = {"config": sandbox.config, "created_at": sandbox.created_at, "stay": runtime.adoptable}
            journal.append({"claim": {**claim, "runtime_handler": sandbox.runtime_handler, "keeper": runtime.keeper}})
        sandbox.directory = _rename(sandbox.directory, runtime.layout.pods_dir, sandbox.config)
        finish_spare_files(sandbox, directory_fd)
        sandbox.spare = False
    finally:
        os.close(directory_fd)


def _rename(directory: str, pods_dir: str, config: PodSandboxConfig) -> str:
    """Gives the directory the pod's name: `<uid>`, or `<uid>.<attempt>` where the kubelet side has made the first."""
    uid, attempt = config.metadata.uid, config.metadata.attempt
    if not attempt:
        try:
            os.rename(directory, f"{pods_dir}/{uid}")
            return f"{pods_dir}/{uid}"
        except OSError as error:
            import errno

            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    os.rename(directory, f"{pods_dir}/{uid}.{attempt}")
    return f"{pods_dir}/{uid}.{attempt}"
