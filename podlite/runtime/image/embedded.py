"""The image that is always there and never pulled: this machine's own userland, without its data.

`podlite.local/host:1` is a generated skeleton of a root (podlite.runtime.image.skeleton) as the only layer, and
read-only binds of /usr, and of /bin, /sbin and /lib* where those are no links into /usr: overlayfs does not
cross mounts, so the host's directories cannot be layers themselves, and / must not be one.

The skeleton is kept in the store like any other layer and made anew when what it was made from has changed, which a
handful of stat calls tell. It is not written durably, for that could take longer than making it: it is also
made anew after a reboot.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podlite.runtime.image.layout import boot_id
from podlite.runtime.image.store import EMBEDDED_NAME

if TYPE_CHECKING:
    from podlite.runtime.image.record import ImageRecord
    from podlite.runtime.image.store import ImageStore

# Counts what skeletons look like: a larger number replaces those that are there.
_SKELETON_VERSION = 1

# Where programs and libraries are; those that are directories of their own are bound.
HOST_DIRECTORIES = ("bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin", "usr")

# Looked at without following links; directories change their time when an entry is added, removed or replaced.
_SOURCES = (
    *(f"/{name}" for name in HOST_DIRECTORIES),
    "/etc/alternatives",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust/extracted/pem",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl",
    "/etc/ssl/certs",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/timezone",
)


def ensure_embedded(store: ImageStore) -> ImageRecord:
    """The embedded image's record, of an image that fits this machine as it is now. Raises ImageError."""
    fingerprint = host_fingerprint()
    record = store.find(EMBEDDED_NAME)
    if record is not None and record.fingerprint == fingerprint:
        return record
    from podlite.runtime.image.skeleton import add_embedded

    return add_embedded(store, fingerprint)


def host_fingerprint() -> str:
    """What the skeleton depends on, in a text that changes with it."""
    parts = [str(_SKELETON_VERSION), boot_id()]
    for path in _SOURCES:
        try:
            status = os.lstat(path)
        except OSError:
            parts.append("-")
            continue
        parts.append(f"{status.st_mtime_ns:x}.{status.st_ino:x}.{status.st_size:x}")
    return " ".join(parts)
