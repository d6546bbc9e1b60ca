"""Running one CNI plugin: its configuration in, its result or its error out, within a time limit.

A plugin is a program of somebody else's. It may hang, leave children behind that keep its pipes open, crash, print
what is no JSON, or print without end: each of these ends here in a sentence. Everything that it said on standard
error is kept, for that is all that a person has to go by.

The plugin runs in the caller's network namespace (SPEC.md section 2) and in a session of its own, so that its
children (an IPAM plugin, iptables) can be ended with it. Blocking, on a thread that may wait.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

import msgspec

from podlite.errors import explain
from podlite.linux import affinity
from podlite.runtime.network.cni.errors import TRY_AGAIN_LATER, PluginError, PluginMissingError
from podlite.steps import step

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

# Every operation of one plugin. A DHCP server has that long to answer, and nobody waits for ever.
SECONDS = 30.0
# Of either output; a result has some hundred bytes.
_MAX_OUTPUT = 1 << 20
# A program that is being written just now: ETXTBSY is waited for, as libcni does.
_BUSY_SECONDS = 5.0


class Output:
    """How a plugin ended. `code` is its exit status, negative for a signal; `ended` says why it was killed, if so."""

    __slots__ = ("code", "ended", "stderr", "stdout")

    def __init__(self, code: int, stdout: bytes, stderr: bytes, ended: str) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
        self.ended = ended


def find_plugin(kind: str, directories: Sequence[str]) -> str:
    """The program of a plugin type. Raises PluginMissingError."""
    for directory in directories:
        path = f"{directory}/{kind}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise PluginMissingError(
        f"The CNI plugin {kind!r} is not in {' or '.join(directories) or 'any directory'}.",
        hint="Debian has the usual ones in its package containernetworking-plugins; --cni-bin-dir names other places",
    )


def invoke(
    kind: str,
    directories: Sequence[str],
    environ: Mapping[str, str],
    configuration: Any,
    *,
    network: str = "",
    sandbox_id: str = "",
    seconds: float = SECONDS,
    stop: int = -1,
) -> bytes:
    """Runs a plugin for one operation (CNI_COMMAND in `environ`) and returns what it printed.

    Raises PluginError, with the plugin's own words, if it could not be run, failed, took longer than `seconds`, or was
    ended because the descriptor `stop` became readable.
    """
    path = find_plugin(kind, directories)
    command = environ["CNI_COMMAND"]
    with step("network.plugin", sandbox_id=sandbox_id, plugin=kind, command=command):
        try:
            output = run(path, environ, msgspec.json.encode(configuration), seconds, stop)
        except OSError as error:
            raise PluginError(f"The CNI plugin {path} cannot be run: {explain(error)}.") from error
    if output.code == 0 and not output.ended:
        return output.stdout
    raise failure(f"{command} by the CNI plugin {path}" + (f", network {network}," if network else ""), output)


def run(path: str, environ: Mapping[str, str], data: bytes, seconds: float, stop: int = -1) -> Output:
    """Runs a program to its end, for that long, or until `stop` is readable. Raises OSError if it cannot be started."""
    import subprocess

    deadline = time.monotonic() + seconds
    busy_until = time.monotonic() + min(seconds, _BUSY_SECONDS)
    while True:
        try:
            with affinity.elsewhere():
                process = subprocess.Popen(
                    [path],
                    env=dict(environ),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    cwd="/",
                )
            break
        except OSError as error:
            if error.errno != 26 or time.monotonic() > busy_until:  # ETXTBSY
                raise
            time.sleep(0.05)
    try:
        return _converse(process, data, deadline, seconds, stop)
    finally:
        if process.returncode is None:
            _end_session(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
        process.wait()


def failure(what: str, output: Output) -> PluginError:
    """The error that a plugin's output stands for; pure. `what` is the beginning of a sentence."""
    stderr = output.stderr.decode(errors="replace")
    if output.ended:
        return PluginError(f"{what} {output.ended}.", stderr=stderr)
    how = f"was killed by signal {-output.code}" if output.code < 0 else f"failed with exit status {output.code}"
    printed = output.stdout.decode(errors="replace").strip()
    try:
        said = msgspec.json.decode(output.stdout)
    except msgspec.DecodeError:
        said = None
    if not isinstance(said, dict) or not (said.get("msg") or said.get("details") or said.get("code")):
        beyond = f", and printed what is no error of CNI's: {printed!r}" if printed else ", without saying why"
        return PluginError(f"{what} {how}{beyond}.", stderr=stderr)
    code = said.get("code")
    code = code if isinstance(code, int) else 0
    words = [str(said[key]).strip().rstrip(".") for key in ("msg", "details") if said.get(key)]
    number = f" (code {code})" if code else ""
    hint = "the plugin asks to try again later" if code == TRY_AGAIN_LATER else ""
    return PluginError(f"{what} failed: {'; '.join(words) or how}{number}.", code=code, stderr=stderr, hint=hint)


def _converse(process: subprocess.Popen[bytes], data: bytes, deadline: float, seconds: float, stop: int) -> Output:
    """Writes, reads and waits, all at once, until the process has ended; its children's hold on the pipes is not
    waited for."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    pidfd = os.pidfd_open(process.pid)
    outputs = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    stdin = process.stdin.fileno()
    for fd in (stdin, *outputs):
        os.set_blocking(fd, False)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if stop >= 0:
        poll.register(stop, select.POLLIN)
    poll.register(stdin, select.POLLOUT)
    for fd in outputs:
        poll.register(fd, select.POLLIN)
    rest = memoryview(data)
    ended = ""
    try:
        exited = False
        while not exited and not ended:
            left = deadline - time.monotonic()
            if left <= 0:
                ended = f"has not ended within {seconds:g} seconds, and was killed"
                break
            for fd, _ in poll.poll(left * 1000):
                if fd == pidfd:
                    exited = True
                elif fd == stop:
                    ended = "was ended: the pod is not wanted any more"
                elif fd == stdin:
                    rest = _write(process, rest)
                    if process.stdin.closed:
                        poll.unregister(stdin)
                elif not _read(fd, outputs[fd]):
                    poll.unregister(fd)
            if any(len(each) > _MAX_OUTPUT for each in outputs.values()):
                ended = f"has printed more than {_MAX_OUTPUT >> 20} MiB, and was killed"
        for fd, content in outputs.items():
            while len(content) <= _MAX_OUTPUT and _read(fd, content, once=True):
                pass
    finally:
        os.close(pidfd)
    if ended:
        _end_session(process)
    stdout, stderr = (bytes(content[:_MAX_OUTPUT]) for content in outputs.values())
    return Output(process.wait(), stdout, stderr, ended)


def _write(process: subprocess.Popen[bytes], rest: memoryview) -> memoryview:
    """Writes what there is room for; closes the pipe at the end, or if nobody reads it."""
    assert process.stdin is not None
    try:
        rest = rest[os.write(process.stdin.fileno(), rest) :] if rest else rest
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        rest = rest[:0]
    if not rest:
        process.stdin.close()
    return rest


def _read(fd: int, into: bytearray, *, once: bool = False) -> bool:
    """Reads what is there; False at the end, or with `once` if nothing is there now."""
    try:
        chunk = os.read(fd, 65536)
    except BlockingIOError:
        return not once
    into.extend(chunk)
    return bool(chunk)


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Kills a plugin that has not been waited for, and its children. (What one that has ended of itself leaves running
    it has left on purpose: a DHCP client, a DNS server.)"""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
