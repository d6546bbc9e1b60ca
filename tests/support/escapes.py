"""What the tests that attack containers share: probes that run inside, every way in, hostile images, victims outside.

A probe is a Python program (of the host's own Python, in /usr) that runs in a container and tells what it found:

    found = await ask(runtime, "tell(uid=os.getuid(), core=attempt(open, '/proc/kcore', 'rb'))", run_as_user=1000)

`attempt` is "ok" or the name of the errno, so that a test compares the very reason for which an attack failed.
"""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from podlite.cri.types import Capability, Mount, NamespaceMode, NamespaceOption
from tests.support.containers import container_config, finished, read_log, sandbox_config, start
from tests.support.images import Dir, File, Node, Symlink, TestImage, oci_layout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from podlite.cri.types import ContainerConfig
    from podlite.runtime.service import Runtime

# A plain user's number in containers; nobody's on the host.
USER = 31337
UIDS = (0, USER)
# Every way into a container. Each is another path through shim and init, or another thing to be seen from inside.
WAYS = ("start", "start-tty", "exec", "exec-tty", "shared-pid", "host-pid")

_PRELUDE = r"""
import ctypes, errno, json, os, signal, socket, stat, sys, time
FDS = sorted(int(each) for each in os.listdir("/proc/self/fd"))  # and that of the listing itself
libc = ctypes.CDLL(None, use_errno=True)

def name(code):
    return errno.errorcode.get(code, str(code))

def attempt(call, *arguments, **named):
    "ok, or the name of the errno that came back."
    try:
        result = call(*arguments, **named)
    except OSError as error:
        return name(error.errno)
    if hasattr(result, "close"):
        result.close()
    return "ok"

def opened(path, flags, **named):
    "As attempt, of open(2); the descriptor is closed."
    def go():
        os.close(os.open(path, flags, 0o600, **named))
    return attempt(go)

def syscall(number, *arguments):
    "The result of a raw system call, or the name of its errno."
    padded = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    result = libc.syscall(ctypes.c_long(number), *padded)
    return name(ctypes.get_errno()) if result == -1 else result

def mount(source, target, fstype="", flags=0, data=""):
    result = libc.mount(source.encode(), target.encode(), fstype.encode(), ctypes.c_ulong(flags), data.encode() or None)
    return "ok" if result == 0 else name(ctypes.get_errno())

def read(path, limit=1 << 16):
    "The content, or the name of the errno."
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        return name(error.errno)
    try:
        return os.read(fd, limit).decode(errors="replace")
    except OSError as error:
        return name(error.errno)
    finally:
        os.close(fd)

def status(field, pid="self"):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith(field + ":"):
            return line.split(":", 1)[1].strip()

def tell(**found):
    print("\n@" + json.dumps(found), flush=True)
"""


def probe(source: str) -> list[str]:
    """The command line of a probe; -I and -S: nothing but the standard library, quickly."""
    return ["/usr/bin/python3", "-I", "-S", "-c", _PRELUDE + textwrap.dedent(source)]


def told(output: str) -> list[dict[str, Any]]:
    """What a probe has told so far."""
    return [json.loads(line[1:]) for line in output.replace("\r", "").split("\n") if line.startswith("@")]


async def ask(runtime: Runtime, source: str, *, sandbox: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Runs a probe as the only container of a pod of its own; returns what it told."""
    async with pod(runtime, **(sandbox or {})) as id:
        return await ask_in(runtime, id, source, **fields)


async def ask_in(runtime: Runtime, sandbox_id: str, source: str, **fields: Any) -> dict[str, Any]:
    """Runs a probe as a container of this pod; returns what it told."""
    name = fields.pop("name", f"probe{len(runtime.store.containers)}")
    id = await start(runtime, sandbox_id, container_config(probe(source), name, **fields))
    done = await finished(runtime, id)
    answers = told(done.stdout)
    assert answers, f"the probe ended with {done.code} and told nothing: {done.stdout}{done.stderr}"
    return answers[-1]


async def ask_by_exec(runtime: Runtime, container_id: str, source: str, *, tty: bool = False) -> dict[str, Any]:
    """Runs a probe by exec; returns what it told."""
    output, errors = bytearray(), bytearray()
    stream = await runtime.exec(container_id, probe(source), tty=tty, stdin=False, stdout=True, stderr=not tty)
    async with stream:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for source_stream, into in ((stream.stdout, output), (stream.stderr, errors)):
                    if source_stream is not None:
                        tasks.start_soon(_collect, source_stream, into)
            await stream.wait()
    answers = told(output.decode(errors="replace"))
    assert answers, f"the probe told nothing: {bytes(output + errors).decode(errors='replace')}"
    return answers[-1]


async def _collect(stream: Any, into: bytearray) -> None:
    async for chunk in stream:
        into.extend(chunk)


async def ask_this_way(runtime: Runtime, way: str, source: str, **fields: Any) -> dict[str, Any]:
    """Runs a probe by one of WAYS; returns what it told."""
    modes = {"shared-pid": NamespaceMode.POD, "host-pid": NamespaceMode.NODE}
    options = NamespaceOption(pid=modes.get(way, NamespaceMode.CONTAINER))
    fields = {"namespace_options": options, **fields}
    async with pod(runtime, pid=options.pid) as id:
        if way.startswith("exec"):
            waiting = await start(runtime, id, container_config(["/bin/sleep", "1000"], **fields))
            return await ask_by_exec(runtime, waiting, source, tty=way == "exec-tty")
        tty = way == "start-tty"
        return await ask_in(runtime, id, source, tty=tty, stdin=tty, **fields)


@asynccontextmanager
async def pod(runtime: Runtime, **options: Any) -> AsyncIterator[str]:
    """A sandbox (its id), gone after the block; `options` are those of NamespaceOption."""
    id = await runtime.run_pod_sandbox(sandbox_config(runtime, **options))
    try:
        yield id
    finally:
        with anyio.CancelScope(shield=True):
            await runtime.remove_pod_sandbox(id)


@asynccontextmanager
async def running(runtime: Runtime, sandbox_id: str, source: str, **fields: Any) -> AsyncIterator[str]:
    """A probe that goes on until the block ends: its container's id, once it has told something."""
    id = await start(runtime, sandbox_id, container_config(probe(source), fields.pop("name", "running"), **fields))
    try:
        await said(runtime, id)
        yield id
    finally:
        with anyio.CancelScope(shield=True):
            await runtime.stop_container(id, 0)


async def said(runtime: Runtime, container_id: str, count: int = 1) -> list[dict[str, Any]]:
    """What a container told, as soon as it told so many things. Raises TimeoutError, AssertionError if it ended."""
    container = runtime.store.containers[container_id]
    with anyio.fail_after(60):
        while True:
            ended = container.exited.is_set()
            streams = read_log(container.log_path)
            answers = told(streams["stdout"].decode(errors="replace"))
            if len(answers) >= count:
                return answers
            assert not ended, f"it ended with {container.exit_code}: {streams}"
            await anyio.sleep(0.01)


# What a process can try on another one, without changing it; `canary` is a path of the host's.
LOOK_INTO = """
def readable(path):
    # Some files can be opened by their owner and not be read.
    fd = os.open(path, os.O_RDONLY)
    try:
        os.pread(fd, 1, 0x400000 if path.endswith("/mem") else 0)
    finally:
        os.close(fd)

def look(pid, canary):
    found = {}
    at = f"/proc/{pid}"
    for link in ("root", "cwd", "exe"):
        found[link] = attempt(os.readlink, f"{at}/{link}")
    for fd in range(48):
        found[f"fd{fd}"] = attempt(os.stat, f"{at}/fd/{fd}")
    for file in ("environ", "maps", "mem", "auxv", "io", "syscall", "stack"):
        found[file] = attempt(readable, f"{at}/{file}")
    for way in ("root", "cwd"):
        found[f"canary by {way}"] = attempt(os.stat, f"{at}/{way}{canary}")
    found["list root"] = attempt(os.listdir, f"{at}/root")
    found["map_files"] = attempt(os.listdir, f"{at}/map_files")
    buffer = ctypes.create_string_buffer(8)
    iovec = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    remote = (ctypes.c_size_t * 2)(0x400000, 8)
    numbers = {"x86_64": (310, 101), "aarch64": (270, 117)}[os.uname().machine]
    # An address that may not be mapped: EFAULT would mean that the access was allowed.
    found["process_vm_readv"] = syscall(numbers[0], pid, ctypes.byref(iovec), 1, ctypes.byref(remote), 1, 0)
    found["pidfd_getfd"] = syscall(438, os.pidfd_open(pid), 0, 0)
    for kind in ("mnt", "pid", "net", "user"):
        found[f"ns {kind}"] = opened(f"{at}/ns/{kind}", os.O_RDONLY)
    # Last: it would let go of the process.
    found["PTRACE_SEIZE"] = syscall(numbers[1], 0x4206, pid, 0, 0)
    return found
"""


def not_denied(found: dict[str, Any]) -> dict[str, Any]:
    """What of the answers of LOOK_INTO is no refusal."""
    return {what: answer for what, answer in found.items() if answer not in ("EACCES", "EPERM", "ENOENT")}


def with_capabilities(*names: str) -> Capability:
    """The default capabilities and these."""
    return Capability(add_capabilities=list(names))


def shared_pid(**fields: Any) -> dict[str, Any]:
    """Fields of a container that shares its pod's pid namespace."""
    return {"namespace_options": NamespaceOption(pid=NamespaceMode.POD), **fields}


# --- hostile images --------------------------------------------------------------------------------

# The host's /usr as a volume, so that a probe runs in any image; `USR_LINKS` is what an image needs for it.
USR = Mount(container_path="/usr", host_path="/usr", readonly=True)


def usr_links() -> dict[str, Node]:
    """/bin, /lib and their like, as links into /usr: what this machine has, if it is merged, as Debian is."""
    return {
        name: Symlink(f"usr/{name}")
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
        if os.path.islink(f"/{name}")
    }


def hostile_image(runtime: Runtime, files: Mapping[str, Any], directory: Path, **config: Any) -> str:
    """Loads an image of links into /usr (mount USR there) and these files; returns its name."""
    from podlite.runtime.image.load import load_images

    layer = {"usr/": Dir(), "tmp/": Dir(0o1777), "etc/": Dir(), **usr_links(), **files}
    layer = {key: node for key, node in layer.items() if node is not None}
    settings = {"Env": ["PATH=/usr/bin:/bin"], **config}
    key = hashlib.sha256(repr((sorted(layer.items(), key=lambda item: item[0]), settings)).encode()).hexdigest()[:16]
    image = TestImage(f"docker.io/library/hostile-{key}:1", [layer], settings)
    load_images(runtime.image_store, str(oci_layout(directory / key, [image], layers="none")))
    return image.name


def script(text: str) -> Node:
    """An executable file."""
    return File(textwrap.dedent(text).lstrip("\n"), mode=0o755)


# --- victims -----------------------------------------------------------------------------------------


class Canary:
    """A directory of the host that no container is given: what attacks aim at, and whether it has changed."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        os.makedirs(f"{directory}/inside")
        for name in ("secret", "ptmx", "null", "hosts"):
            Path(f"{directory}/{name}").write_text(f"canary {name}\n")
        self._before = self._state()

    def _state(self) -> dict[str, tuple[int, ...]]:
        found = {}
        for parent, directories, files in os.walk(self.directory):
            for name in (*directories, *files, "."):
                each = os.lstat(f"{parent}/{name}")
                found[f"{parent}/{name}"] = (
                    each.st_mode,
                    each.st_uid,
                    each.st_size,
                    each.st_mtime_ns,
                    each.st_ctime_ns,
                )
        return found

    def assert_untouched(self) -> None:
        """Nothing in it was made, removed, written, or changed in its attributes."""
        assert self._state() == self._before


def config_for(command: list[str], image: str, name: str = "main", **fields: Any) -> ContainerConfig:
    """`container_config` for an image of `hostile_image`, which gets its /usr."""
    return container_config(command, name, image=image, mounts=[USR, *fields.pop("mounts", [])], **fields)
