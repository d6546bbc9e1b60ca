"""Makes the root of the embedded image: empty directories to mount on, and what of /etc programs need to run.

Nothing secret comes along: only what is listed here, only regular files that everybody may read, none that
contains a private key, and /etc/passwd and /etc/group without passwords and personal names.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

import msgspec

from podlite.runtime.image.config import parse_image_config
from podlite.runtime.image.embedded import HOST_DIRECTORIES
from podlite.runtime.image.platform import machine_platforms
from podlite.runtime.image.record import ImageRecord, LayerRecord
from podlite.runtime.image.store import EMBEDDED_NAME

if TYPE_CHECKING:
    from podlite.runtime.image.store import ImageStore

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Everything that a container's mounts may need as a mount point, so that none has to be made at its start.
_DIRECTORIES = (
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/mail", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
)
_LINKS = (("var/run", "/run"), ("var/lock", "/run/lock"), ("etc/mtab", "/proc/self/mounts"))
_EMPTY_FILES = ("etc/hostname", "etc/hosts", "etc/resolv.conf")

_ETC_FILES = (
    "debian_version",
    "ethertypes",
    "gai.conf",
    "host.conf",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "locale.alias",
    "localtime",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "pki/tls/cert.pem",
    "pki/tls/openssl.cnf",
    "protocols",
    "redhat-release",
    "rpc",
    "services",
    "shells",
    "ssl/cert.pem",
    "ssl/openssl.cnf",
    "timezone",
)
_ETC_TREES = (
    "alternatives",
    "crypto-policies",
    "ld.so.conf.d",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "ssl/certs",
    "terminfo",
)
_FILE_LIMIT = 16 << 20
_SECRET = b"PRIVATE KEY-----"


def add_embedded(store: ImageStore, fingerprint: str) -> ImageRecord:
    """Makes the skeleton and puts the image into the store under its name. Raises ImageError."""
    # The digest of what a skeleton is made from stands for that of its archive, which never exists.
    name = hashlib.sha256(fingerprint.encode()).hexdigest()
    links, binds = host_directories()
    raw = _configuration(name)
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    config, _ = parse_image_config(raw)

    def fill(target: str) -> LayerRecord:
        return make_skeleton(target, links, [container for _, container in binds], diff_id=f"sha256:{name}")

    with store.writer() as writer:
        writer.protect([name], [digest])
        writer.add_blob(raw, digest)
        layer = writer.add_layer(name, fill, durable=False)
        record = ImageRecord(
            id=digest,
            layers=[name],
            config=config,
            size=layer.bytes,
            blobs=[digest],
            binds=binds,
            fingerprint=fingerprint,
        )
        writer.commit([(record, [EMBEDDED_NAME])])
    return record


def host_directories(root: str = "/") -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """How the host's programs and libraries get into a container: links to make in its root, and directories to
    bind over it. `root` stands in for the host's.

    /bin, /sbin and /lib* are links into /usr on a merged host, and directories of their own on others.
    """
    links = []
    binds = []
    for name in HOST_DIRECTORIES:
        path = os.path.join(root, name)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(mode):
            binds.append((path, f"/{name}"))
        elif stat.S_ISLNK(mode):
            target = os.readlink(path)
            if os.path.normpath(os.path.join("/", target)).startswith("/usr/"):
                links.append((name, target))
    return links, binds


def make_skeleton(
    target: str, links: list[tuple[str, str]], mount_points: list[str], *, diff_id: str = "", etc: str = "/etc"
) -> LayerRecord:
    """Fills the empty directory `target`. `etc` stands in for the host's /etc. Raises OSError."""
    skeleton = _Skeleton(target, etc)
    for name, mode in _DIRECTORIES:
        skeleton.directory(name, mode)
    for point in mount_points:
        skeleton.directory(point.lstrip("/"), 0o755)
    for name, to in (*links, *_LINKS):
        skeleton.link(name, to)
    for name in _EMPTY_FILES:
        skeleton.file(name, b"")
    skeleton.file("etc/passwd", _without_secrets(f"{etc}/passwd", personal=4))
    skeleton.file("etc/group", _without_secrets(f"{etc}/group"))
    for name in _ETC_FILES:
        skeleton.copy(name)
    for name in _ETC_TREES:
        skeleton.copy_tree(name)
    return LayerRecord(diff_id=diff_id, entries=skeleton.entries, bytes=skeleton.bytes, disk_bytes=skeleton.disk_bytes)


class _Skeleton:
    """Makes entries below `target`, which is private and new: nothing can be in the way."""

    def __init__(self, target: str, etc: str) -> None:
        self._target = target
        self._etc = etc
        self.entries = 0
        self.bytes = 0
        self.disk_bytes = 0

    def directory(self, name: str, mode: int = 0o755) -> None:
        path = f"{self._target}/{name}"
        if os.path.isdir(path):
            return
        parent = name.rpartition("/")[0]
        if parent:
            self.directory(parent)
        os.mkdir(path)
        os.chmod(path, mode)
        self._count(0)

    def link(self, name: str, to: str) -> None:
        os.symlink(to, f"{self._target}/{name}")
        self._count(0)

    def file(self, name: str, content: bytes) -> None:
        path = f"{self._target}/{name}"
        with open(path, "xb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
        self._count(len(content))

    def copy(self, name: str) -> None:
        """Copies `name` of /etc if it is there and fit: a link as it is if what it leads to comes along."""
        source = f"{self._etc}/{name}"
        try:
            linked = os.readlink(source)
        except OSError:
            linked = ""
        if linked and _comes_along(os.path.normpath(os.path.join("/etc", os.path.dirname(name), linked))):
            self._parent(name)
            self.link(f"etc/{name}", linked)
            return
        content = _public_content(source)
        if content is not None:
            self._parent(name)
            self.file(f"etc/{name}", content)

    def copy_tree(self, name: str) -> None:
        source = f"{self._etc}/{name}"
        if not os.path.isdir(source) or os.path.islink(source):
            self.copy(name)
            return
        self.directory(f"etc/{name}")
        for entry in sorted(os.listdir(source)):
            below = f"{name}/{entry}"
            if os.path.isdir(f"{source}/{entry}") and not os.path.islink(f"{source}/{entry}"):
                self.copy_tree(below)
            else:
                self.copy(below)

    def _parent(self, name: str) -> None:
        self.directory(os.path.dirname(f"etc/{name}"))

    def _count(self, size: int) -> None:
        self.entries += 1
        self.bytes += size
        self.disk_bytes += (size + 4095) & ~4095


def _comes_along(path: str) -> bool:
    """Whether a container of the embedded image has this path."""
    if path.split("/")[1] in HOST_DIRECTORIES:
        return True
    inside = path.removeprefix("/etc/")
    return path.startswith("/etc/") and (
        inside in _ETC_FILES or any(inside.startswith(f"{tree}/") for tree in _ETC_TREES)
    )


def _public_content(path: str) -> bytes | None:
    """A file's content, if it is a regular one that everybody may read and holds no private key."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not status.st_mode & stat.S_IROTH or status.st_size > _FILE_LIMIT:
            return None
        content = file.read(_FILE_LIMIT)
    return None if _SECRET in content else content


def _without_secrets(path: str, *, personal: int | None = None) -> bytes:
    """passwd(5) or group(5) with `x` for every password, and without the field of that number."""
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return b""
    kept = []
    for line in lines:
        fields = line.split(b":")
        # Lines with + or - refer to other databases (NIS).
        if len(fields) < 4 or line[:1] in (b"#", b"+", b"-"):
            continue
        fields[1] = b"x"
        if personal is not None and len(fields) > personal:
            fields[personal] = b""
        kept.append(b":".join(fields))
    return b"".join(line + b"\n" for line in kept)


def _configuration(fingerprint: str) -> bytes:
    """The image's configuration blob; its digest is the image's id."""
    platform = machine_platforms(cpuinfo="")[0]
    return msgspec.json.encode(
        {
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {
                "Env": [f"PATH={_PATH}"],
                "Cmd": ["/bin/sh"],
                "WorkingDir": "/",
                "Labels": {"local.podlite.host": fingerprint},
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{fingerprint}"]},
        }
    )
