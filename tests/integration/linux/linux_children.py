"""Running a piece of a test in a child process, which may give up rights or die."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import Callable
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)


class Died(Exception):
    """The child was killed by `signal`."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = signal.Signals(number)


def in_child(action: Callable[[], Any], *, join: list[str] | None = None) -> Any:
    """What `action` returns (as JSON has it) in a child that has joined the cgroups `join`.

    An OSError in the child is raised here with its errno, any other exception as an AssertionError.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        answer: dict[str, Any]
        try:
            os.close(read_end)
            for path in join or []:
                with open(path, "wb", buffering=0) as file:
                    file.write(b"0")
            answer = {"result": action()}
        except OSError as error:
            answer = {"errno": error.errno, "text": str(error)}
        except BaseException as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        os.write(write_end, json.dumps(answer).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise Died(os.WTERMSIG(status))
    answer = json.loads(text)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["text"])
    assert "failed" not in answer, answer["failed"]
    return answer["result"]


def syscall(number: int, *arguments: int) -> int:
    """The result of a raw system call, or minus the errno."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    result = _libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(each) for each in padded))
    return -ctypes.get_errno() if result == -1 else int(result)


def status_field(name: str, pid: int | str = "self") -> str:
    """A field of /proc/PID/status."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
    raise KeyError(name)
