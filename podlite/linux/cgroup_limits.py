"""Putting limits into force: writes in an order that the kernel accepts, and device rules by v1 or BPF."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from podlite.linux import devices
from podlite.linux.cgroup_files import CgroupError, explain, read, write

if TYPE_CHECKING:
    from podlite.linux.cgroup_resources import Write
    from podlite.linux.devices import DeviceRule

# Rule sets whose programs stay loaded; a machine has few distinct ones.
_MAX_PROGRAMS = 16


def write_group(directory: str, group: list[Write]) -> None:
    """Writes a group of files, in the reverse order where the kernel asks for it. Raises CgroupError.

    Raising a pair of limits needs the other order than lowering them, for memory and memory+swap as for period
    and quota, and which it is depends on what is in force.
    """
    for attempt in (group, group[::-1]):
        for item in attempt:
            try:
                write(f"{directory}/{item.file}", item.value)
            except OSError as error:
                if item.optional and error.errno == errno.ENOENT:
                    continue
                if error.errno == errno.EINVAL and attempt is group and len(group) > 1:
                    break
                raise _refused(directory, item, error) from error
        else:
            return


def _refused(directory: str, item: Write, error: OSError) -> CgroupError:
    if error.errno == errno.EBUSY and item.file == "memory.limit_in_bytes":
        try:
            usage = f"{read(f'{directory}/memory.usage_in_bytes').strip()} bytes"
        except OSError:
            usage = "more"
        return CgroupError(
            f"the memory limit {item.value} cannot be set: the processes in {directory} use {usage}",
            errno=errno.EBUSY,
        )
    file = f"{directory}/{item.file}"
    if error.errno in (errno.EINVAL, errno.ERANGE):
        above = f"; it may not exceed what {os.path.dirname(directory)} has" if item.file.startswith("cpu") else ""
        return CgroupError(f"the kernel refuses {item.value!r} for {file}{above}", errno=error.errno)
    return explain(f"write {item.value!r} to", file, error)


def limit_devices_v1(directory: str, rules: tuple[DeviceRule, ...]) -> None:
    """Allows a cgroup of the v1 devices hierarchy these devices only. Raises CgroupError.

    A cgroup cannot be allowed more than its parent; inside a container that may be less than the rules say.
    """
    fds: dict[str, int] = {}
    try:
        for file, line in devices.v1_writes(rules):
            if file not in fds:
                fds[file] = os.open(f"{directory}/{file}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fds[file], line.encode())
            except PermissionError:
                if file != "devices.allow":
                    raise
    except OSError as error:
        raise explain("limit the devices of", directory, error) from error
    finally:
        for fd in fds.values():
            os.close(fd)


class DevicePrograms:
    """The BPF programs of device rules, each loaded once; they stay loaded until `close`."""

    def __init__(self) -> None:
        self._fds: dict[tuple[DeviceRule, ...], int] = {}

    def limit(self, directory: str, rules: tuple[DeviceRule, ...]) -> bool:
        """Allows a cgroup of the v2 tree these devices only; idempotent. Raises CgroupError.

        Returns False where this machine or user cannot have such programs, unless everything is allowed anyway.
        """
        everything = any(rule.type == "a" for rule in rules)
        try:
            cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                devices.replace_programs(cgroup, None if everything else self._loaded(rules))
            finally:
                os.close(cgroup)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS):
                return everything
            raise explain("limit the devices of", directory, error) from error
        return True

    def _loaded(self, rules: tuple[DeviceRule, ...]) -> int:
        found = self._fds.get(rules)
        if found is None:
            if len(self._fds) >= _MAX_PROGRAMS:
                self.close()
            found = self._fds[rules] = devices.load_program(devices.bpf_program(rules))
        return found

    def close(self) -> None:
        """Closes the programs' fds; what is attached to a cgroup stays in force. Idempotent."""
        while self._fds:
            os.close(self._fds.popitem()[1])
