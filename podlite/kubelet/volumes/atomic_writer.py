"""Files that change all at once: who reads them through the volume sees the old content or the new, never a mixture.

    ..2026_11_23_20_00_00.1234/app/config    the content, in a directory that is never changed once it is complete
    ..data -> ..2026_11_23_20_00_00.1234     replaced by rename(2), which is atomic
    app -> ..data/app                        what is seen; one link for each top-level name

Names beginning with `..` are therefore not free for files. A writer that was killed leaves nothing that the next
one does not put right.

Source: the scheme is part of the volumes' documented behaviour (pkg/volume/util/atomic_writer.go).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from podlite.kubelet.types import KubeletError
from podlite.linux.fs import read_file, remove_tree, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DATA = "..data"
_NEW_DATA = "..data_tmp"
_MAX_NAME = 255
_MAX_PATH = 4096


class File(NamedTuple):
    """The content and permission bits of one file."""

    data: bytes
    mode: int


def write_atomically(
    directory: str, files: Mapping[str, File], *, before_publishing: Callable[[], None] | None = None
) -> bool:
    """Makes the volume in `directory` (which exists) show exactly these files, by path; False if it already did.

    `before_publishing` is called when the new content is complete but not yet seen. Blocking; one writer at a time.
    Directories that were made in the volume otherwise, as mount points, stay. Raises OSError, and KubeletError for a
    path that cannot be.
    """
    wanted = {os.path.normpath(_checked(path)): file for path, file in files.items()}
    try:
        current = os.readlink(f"{directory}/{DATA}")
    except FileNotFoundError:
        current = ""
    changed = not current or not _is_same(f"{directory}/{current}", wanted)
    if changed:
        current = _write_version(directory, wanted)
        if before_publishing is not None:
            before_publishing()
        _replace_link(directory, current)
    _show(directory, {path.partition("/")[0] for path in wanted})
    _remove_versions(directory, current)
    return changed


def _checked(path: str) -> str:
    parts = path.split("/")
    problem = ""
    if not path:
        problem = 'must not be empty: ""'
    elif path.startswith("/"):
        problem = f"must be relative path: {path}"
    elif len(path) > _MAX_PATH:
        problem = f"must be less than or equal to {_MAX_PATH} characters"
    elif ".." in parts:
        problem = f"must not contain '..': {path}"
    elif any(len(part.encode()) > _MAX_NAME for part in parts):
        problem = f"filenames must be less than or equal to {_MAX_NAME} characters"
    elif path.startswith(".."):
        problem = f"must not start with '..': {path}"
    elif os.path.normpath(path) == ".":
        problem = f"must name a file: {path}"
    if problem:
        raise KubeletError(f"invalid path: {problem}")
    return path


def _is_same(version: str, wanted: Mapping[str, File]) -> bool:
    """Whether a version has these files with this content, and no others."""
    found = set()
    for parent, _, names in os.walk(version):
        for name in names:
            path = f"{parent}/{name}"
            relative = path[len(version) + 1 :]
            if relative not in wanted or read_file(path) != wanted[relative].data:
                return False
            found.add(relative)
    return len(found) == len(wanted)


def _write_version(directory: str, wanted: Mapping[str, File]) -> str:
    name = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()) + os.urandom(5).hex()
    version = f"{directory}/{name}"
    os.mkdir(version)
    # Whatever the umask is: group and others must get in.
    os.chmod(version, 0o755)
    made = {""}
    for path, file in wanted.items():
        parent = os.path.dirname(path)
        if parent not in made:
            os.makedirs(f"{version}/{parent}", exist_ok=True)
            for each in _ancestors(parent):
                os.chmod(f"{version}/{each}", 0o755)
                made.add(each)
        fd = os.open(f"{version}/{path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, file.data)
            os.fchmod(fd, file.mode)
        finally:
            os.close(fd)
    return name


def _ancestors(path: str) -> list[str]:
    """`a/b/c` → a, a/b, a/b/c."""
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _replace_link(directory: str, version: str) -> None:
    new = f"{directory}/{_NEW_DATA}"
    try:
        os.unlink(new)
    except FileNotFoundError:
        pass
    os.symlink(version, new)
    os.rename(new, f"{directory}/{DATA}")


def _show(directory: str, names: set[str]) -> None:
    """One link for each name, and none for what is no more."""
    for name in names:
        try:
            os.symlink(f"{DATA}/{name}", f"{directory}/{name}")
        except FileExistsError:
            # The link of before; or the mount point of a volume inside this one, which goes before a file.
            pass
    for name in os.listdir(directory):
        link = f"{directory}/{name}"
        if not name.startswith("..") and name not in names and os.path.islink(link):
            os.unlink(link)


def _remove_versions(directory: str, current: str) -> None:
    """The version before, and what killed writers left."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(fd):
            if name == _NEW_DATA or (name.startswith("..") and name[2:6].isdecimal() and name != current):
                remove_tree(fd, name)
    finally:
        os.close(fd)
