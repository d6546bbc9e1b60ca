"""Seccomp filters, ready to load: RuntimeDefault, or a profile from a file; compiled once per distinct input.

Compiling takes some milliseconds, so programs are kept in memory and in a directory that the caller names.
Anything wrong with a stored program makes it be compiled again: an empty or shortened one would confine nothing.

The program is loaded by `podlite.linux.seccomp_load`, in the process that is to be confined.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from podlite.linux import capabilities

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.linux.seccomp_profile import Profile, Situation

# Changes whenever another program comes out for the same input: stored programs of other versions are not used.
_COMPILER = 1
_MAGIC = b"plscmp01"
_MAX_PROFILE_BYTES = 1 << 20
_MAX_IN_MEMORY = 64


class Filter(NamedTuple):
    """A program (struct sock_filter[]) and the flags to load it with."""

    program: bytes
    flags: int


_compiled: dict[str, Filter] = {}


def default_filter(bounding: int, cache_dir: str | None = None) -> Filter:
    """The filter of RuntimeDefault for a container whose capability bounding set is `bounding`.

    Programs are kept below `cache_dir`, which is made if need be; one that cannot be written is no error.
    Blocking: reads and perhaps writes a small file. Raises SeccompError on a machine without a syscall table.
    """

    def profile(situation: Situation) -> Profile:
        from podlite.linux.seccomp_default import default_profile

        names = frozenset(name.removeprefix("CAP_") for name in situation.capabilities)
        return default_profile(situation.machine, names, situation.kernel)

    return _filter("default", bounding, cache_dir, profile)


def file_filter(path: str, bounding: int, cache_dir: str | None = None) -> Filter:
    """The filter of the profile in a JSON file, OCI's or docker's form, for this bounding set.

    Otherwise as `default_filter`. Raises SeccompError, which names the file, if it cannot be read or used.
    """
    import hashlib

    from podlite.linux.seccomp_profile import SeccompError, parse

    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_PROFILE_BYTES + 1)
    except OSError as error:
        raise SeccompError(f"the seccomp profile {path} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_PROFILE_BYTES:
        raise SeccompError(f"the seccomp profile {path} has more than {_MAX_PROFILE_BYTES} bytes")

    def profile(situation: Situation) -> Profile:
        import msgspec

        try:
            document = msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SeccompError(f"it is not JSON: {error}") from error
        return parse(document, situation)

    try:
        return _filter(hashlib.sha256(content).hexdigest(), bounding, cache_dir, profile)
    except SeccompError as error:
        raise SeccompError(f"the seccomp profile {path} cannot be used: {error.message}", hint=error.hint) from error


def _filter(name: str, bounding: int, cache_dir: str | None, profile: Callable[[Situation], Profile]) -> Filter:
    system = os.uname()
    kernel = _kernel_version(system.release)
    key = f"{name}-{_COMPILER}-{system.machine}-{kernel[0]}.{kernel[1]}-{bounding:x}"
    found = _compiled.get(key)
    if found is None and cache_dir is not None:
        found = _load(f"{cache_dir}/{key}.bpf")
    if found is None:
        from podlite.linux.seccomp_bpf import compile_profile
        from podlite.linux.seccomp_profile import Situation

        names = frozenset(f"CAP_{each}" for each in capabilities.names(bounding))
        wanted = profile(Situation(system.machine, names, kernel))
        found = Filter(compile_profile(wanted), wanted.flags)
        if cache_dir is not None:
            _store(cache_dir, f"{key}.bpf", found)
    if len(_compiled) >= _MAX_IN_MEMORY:
        _compiled.clear()
    _compiled[key] = found
    return found


def _kernel_version(release: str) -> tuple[int, int]:
    """(major, minor) of uname(2)'s release; (0, 0) for one that does not begin with two numbers."""
    parts = release.replace("-", ".").split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) > 1 and parts[0].isdigit() and parts[1].isdigit() else (0, 0)


def _load(path: str) -> Filter | None:
    """A stored program; None if there is none that is whole and nobody else's."""
    import zlib

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return None
        content = os.read(fd, status.st_size)
    finally:
        os.close(fd)
    flags, checksum, program = content[8:12], content[12:16], content[16:]
    if content[:8] != _MAGIC or not program or zlib.crc32(flags + program) != int.from_bytes(checksum, "little"):
        return None
    return Filter(program, int.from_bytes(flags, "little"))


def _store(cache_dir: str, name: str, compiled: Filter) -> None:
    import zlib

    flags = compiled.flags.to_bytes(4, "little")
    checksum = zlib.crc32(flags + compiled.program).to_bytes(4, "little")
    # Two writers of the same name write the same content; the temporary name keeps them apart until it is whole.
    temporary = f"{cache_dir}/.{name}.{os.getpid()}.{id(compiled):x}"
    try:
        os.makedirs(cache_dir, mode=0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(_MAGIC + flags + checksum + compiled.program)
        os.rename(temporary, f"{cache_dir}/{name}")
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
