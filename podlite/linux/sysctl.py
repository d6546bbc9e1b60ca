"""Kernel parameters by their names, as sysctl(8) has them. Standard library only: the shim uses this."""

from __future__ import annotations

import os


def path_of(name: str) -> str:
    """The file of a parameter; names are separated by dots, or by slashes where a part has dots in it (sysctl(8))."""
    dot, slash = name.find("."), name.find("/")
    if slash < 0 or (0 <= dot < slash):
        # Dots separate; a slash stands for a dot within a part.
        name = name.replace(".", "\0").replace("/", ".").replace("\0", "/")
    return f"/proc/sys/{name}"


def write_all(values: dict[str, str]) -> None:
    """Sets parameters of the calling thread's namespaces. Raises OSError with the file's name."""
    for name, value in values.items():
        path = path_of(name)
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.write(fd, value.encode())
        except OSError as error:
            error.filename = path
            raise
        finally:
            os.close(fd)
