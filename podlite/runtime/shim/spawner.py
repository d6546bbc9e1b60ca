"""The spawner: a small single-threaded interpreter that does nothing but fork shims.

Forking it is fast and safe; forking the asyncio process, with its threads and its heap, is neither. It is
exec'd once per controller, with `python -I -S` and the standard library only, imports everything that a shim
will ever need before the first fork, and freezes its heap so that shims share it.

    python -I -S -c '…' FD RUN_DIR KEEP…      FD: its end of the channel to the controller
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time

from podlite import steps
from podlite.linux.capabilities import last_cap
from podlite.linux.process import new_session_keyring, set_title
from podlite.linux.syscalls import close_range
from podlite.runtime.shim import protocol
from podlite.runtime.shim.scratch import enter_private_namespace
from podlite.runtime.shim.shim import Shim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from podlite.runtime.shim.protocol import Message


def main(argv: list[str]) -> int:
    """The spawner's whole life: until its controller closes the channel."""
    channel = socket.socket(fileno=int(argv[0]))
    os.set_inheritable(channel.fileno(), False)
    _leave_everything_behind(channel.fileno())
    protocol.use_standard_json()
    steps.where = "spawner"
    steps.inject_from_environment(os.environ)
    set_title("podlite: spawner")
    # Shims are nobody's concern here: the kernel reaps them, and the controller watches them by pidfd.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        scratch = enter_private_namespace(argv[1], argv[2:])
    except OSError as error:
        text = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror or error)
        protocol.send(channel, {"m": "failed", "error": text, "errno": error.errno or 0})
        return 1
    _warm_up()
    _forbid_imports()
    # Nothing that exists now is ever garbage: the collector need not touch (and so copy) it in the shims.
    gc.collect()
    gc.freeze()
    # Before anybody who asks for a shim takes one of them away (podlite.linux.affinity.keep_off).
    cpus = os.sched_getaffinity(0)
    protocol.send(channel, {"m": "ready", "version": protocol.VERSION, "pid": os.getpid()})
    while True:
        try:
            received = protocol.receive(channel)
        except ConnectionError:
            return 0
        if received is None:
            return 0
        message, fds = received
        _fork_shim(channel, message, fds, scratch, cpus)


def _leave_everything_behind(channel: int) -> None:
    """Gives up what shims would keep for as long as their pods live: whatever descriptors the controller's own
    parent left open (a lock of a script's, a pipe that somebody waits for the end of), the directory that the
    program was started in, whose file system could not be unmounted, and the caller's keys.
    """
    close_range(channel + 1, 0xFFFFFFFF)
    os.chdir("/")
    # Here and not only in the containers, which go on without one of their own where there is no quota for it.
    new_session_keyring()


def _forbid_imports() -> None:
    """What is not loaded now never will be: after a change of root an import would run code of the image's, with
    all of root's rights."""
    sys.meta_path.clear()
    sys.path.clear()


def _warm_up() -> None:
    """Loads what is loaded on first use, so that no shim does it for itself: codecs, the json scanner.

    And what must not be read once there is a /proc of a container's in its place.
    """
    last_cap()
    protocol.loads(protocol.dumps({"m": "", "ä": ["\udcff", 1.5, None, True]}))
    "".encode("utf-8", "surrogateescape")
    time.strftime("%Y", time.gmtime(0))
    time.strftime("%Y", time.localtime(0))


def _fork_shim(channel: socket.socket, message: Message, fds: list[int], scratch: str, cpus: set[int]) -> None:
    start = time.monotonic_ns()
    try:
        with steps.step("shim.fork"):
            pid = os.fork()
    except OSError as error:
        for fd in fds:
            os.close(fd)
        protocol.send(channel, {"m": "failed", "id": message["id"], "error": error.strerror, "errno": error.errno})
        return
    if pid == 0:
        channel.close()
        _become_shim(message, fds, scratch, cpus)
    for fd in fds:
        os.close(fd)
    answer = {"m": "forked", "id": message["id"], "pid": pid, "start": start, "end": time.monotonic_ns()}
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        # It is dead and reaped already, or there is no descriptor to be had; its own channel tells its story.
        protocol.send(channel, answer)
        return
    try:
        protocol.send(channel, answer, [pidfd])
    finally:
        os.close(pidfd)


def _become_shim(config: Message, fds: list[int], scratch: str, cpus: set[int]) -> NoReturn:
    steps.where = "shim"
    code = 1
    owner = socket.socket(fileno=fds[0])
    try:
        shim = Shim(config, owner, fds[1], scratch)
        if config["trace"]:
            steps.listen(lambda span: shim.spans.append([span.name, span.start_ns, span.end_ns, span.where]))
        try:
            shim.set_up()
        except OSError as error:
            text = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror or error)
            owner.setblocking(True)
            protocol.send(owner, {"m": "failed", "id": 0, "step": "shim.setup", "code": 125, "error": text})
            raise
        # So far it was kept off a CPU, as the spawner is; its containers are not.
        try:
            os.sched_setaffinity(0, cpus)
        except OSError:
            pass  # none of them may be used any more
        shim.run()
        code = 0
    except BaseException as error:
        _last_words(config, error)
    finally:
        os._exit(code)


def _last_words(config: Message, error: BaseException) -> None:
    """A shim has no terminal and no log: what ends it is written where the pod's directory is.

    By hand: `traceback` would have to be loaded in every shim.
    """
    lines = []
    at = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        lines.append(f"  {code.co_filename}:{at.tb_lineno} in {code.co_qualname}\n")
        at = at.tb_next
    try:
        with open(config["crash_file"], "a") as file:
            file.write(f"{type(error).__name__}: {error}\n{''.join(lines)}")
    except OSError:
        pass
