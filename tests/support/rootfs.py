"""Looks at an image's root as a container would: through a real overlay mount with its binds, in a chroot.

The mounts are made in the mount namespace of a child process and vanish with it.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from podlite.runtime.image.rootfs import RootfsDescription

_ROOT = Path(__file__).resolve().parents[2]


class Seen(NamedTuple):
    """One entry of a mounted root. `content` is a file's content, a link's target, or empty; `ino` tells hard links."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    nlink: int
    ino: int
    content: bytes
    xattrs: dict[str, bytes]


def run_in_rootfs(
    rootfs: RootfsDescription, argv: Sequence[str], scratch: Path, *, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Runs a command in the root, as root, with nothing in /proc and /dev."""
    return _helper(rootfs, scratch, {"run": list(argv)}, timeout)


def walk_rootfs(rootfs: RootfsDescription, scratch: Path, *, below: str = "/") -> dict[str, Seen]:
    """Every entry of the root, by path without leading slash; the binds are not entered."""
    result = _helper(rootfs, scratch, {"walk": below}, 60)
    assert result.returncode == 0, result.stderr
    return {
        path: Seen(
            **{
                **fields,
                "content": base64.b64decode(fields["content"]),
                "xattrs": {key: base64.b64decode(value) for key, value in fields["xattrs"].items()},
            }
        )
        for path, fields in json.loads(result.stdout).items()
    }


def _helper(
    rootfs: RootfsDescription, scratch: Path, task: dict[str, Any], timeout: float
) -> subprocess.CompletedProcess[str]:
    scratch.mkdir(parents=True, exist_ok=True)
    request = {"lower": rootfs.lower, "binds": rootfs.binds, "scratch": str(scratch), **task}
    return subprocess.run(
        [sys.executable, "-m", "tests.support.rootfs"],
        input=json.dumps(request),
        capture_output=True,
        check=False,
        text=True,
        cwd=_ROOT,
        timeout=timeout,
    )


def _mount(request: dict[str, Any]) -> str:
    from podlite.linux.syscalls import (
        CLONE_NEWNS,
        MS_BIND,
        MS_PRIVATE,
        MS_RDONLY,
        MS_REC,
        MS_REMOUNT,
        fsconfig,
        fsmount,
        fsopen,
        mount,
        move_mount,
        unshare,
    )

    unshare(CLONE_NEWNS)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    root = f"{request['scratch']}/root"
    for name in ("upper", "work", "root"):
        os.makedirs(f"{request['scratch']}/{name}", exist_ok=True)
    context = fsopen("overlay")
    for layer in request["lower"]:
        fsconfig(context, 1, "lowerdir+", layer)
    fsconfig(context, 1, "upperdir", f"{request['scratch']}/upper")
    fsconfig(context, 1, "workdir", f"{request['scratch']}/work")
    fsconfig(context, 6)
    move_mount(fsmount(context), "", -100, root, 0x4)
    for host, container in request["binds"]:
        mount(host, root + container, None, MS_BIND | MS_REC)
        mount(None, root + container, None, MS_BIND | MS_REMOUNT | MS_RDONLY)
    return root


def _walk(binds: list[str], below: str) -> dict[str, Any]:
    found = {}
    for parent, directories, files in os.walk(below):
        directories[:] = [name for name in directories if os.path.join(parent, name) not in binds]
        for name in [*directories, *files]:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            kind = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo"}.get(
                stat.S_IFMT(status.st_mode), "other"
            )
            content = b""
            if kind == "file":
                with open(path, "rb") as file:
                    content = file.read(1 << 20)
            elif kind == "link":
                content = os.fsencode(os.readlink(path))
            found[path.lstrip("/")] = {
                "kind": kind,
                "mode": stat.S_IMODE(status.st_mode),
                "uid": status.st_uid,
                "gid": status.st_gid,
                "mtime_ns": status.st_mtime_ns,
                "size": status.st_size,
                "nlink": status.st_nlink,
                "ino": status.st_ino,
                "content": base64.b64encode(content).decode(),
                "xattrs": {
                    key: base64.b64encode(os.getxattr(path, key, follow_symlinks=False)).decode()
                    for key in os.listxattr(path, follow_symlinks=False)
                },
            }
    return found


def _main() -> None:
    request = json.load(sys.stdin)
    # What is imported after the chroot would be looked for in it.
    base64.b64encode(b"")
    json.dumps({"x": "é"})
    root = _mount(request)
    os.chroot(root)
    os.chdir("/")
    if "run" in request:
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        os.execvpe(request["run"][0], request["run"], environment)
    json.dump(_walk([container for _, container in request["binds"]], request["walk"]), sys.stdout)


if __name__ == "__main__":
    _main()
