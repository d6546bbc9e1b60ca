"""A quicker way to the same modules: for each, Python's own finder and loader take 55 µs whatever is in it, this 25,
and `podlite run` imports 250 of the packages below.

`install` is for podlite's own command only: whoever uses podlite as a library has an import system that is his. What
is found is what Python would find, a source file beside which its code is cached (PEP 3147), made from a source of
that time and size (PEP 552). Where anything is otherwise, Python's own finder and loader do it.

Standard library only, and nothing of it that the command does not load anyway.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib._bootstrap_external import MAGIC_NUMBER
from importlib.machinery import ModuleSpec, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

# Packages in which no name stands for two things: a module and a package, a source file and an extension.
PACKAGES = frozenset(("podlite", "anyio", "asyncio", "concurrent", "json", "msgspec", "re", "yaml"))

_CACHED = f".{sys.implementation.cache_tag}.pyc"
# S_IFMT and S_IFREG.
_FILE_TYPE, _REGULAR = 0o170000, 0o100000


def install() -> None:
    """Finds the modules of PACKAGES in the quicker way from here on. Idempotent.

    Where code is cached elsewhere, or optimised code is asked for, everything stays as it is.
    """
    usual = sys.pycache_prefix is None and not sys.flags.optimize
    if usual and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # The packages themselves lie somewhere on sys.path; their modules in one directory.
        if not path or name.partition(".")[0] not in PACKAGES or len(path) != 1:
            return None
        directory, tail = path[0], name.rpartition(".")[2]
        source = f"{directory}/{tail}.py"
        stat = _regular_file(source)
        if stat is not None:
            return _spec(name, source, f"{directory}/__pycache__/{tail}{_CACHED}", stat)
        package = f"{directory}/{tail}"
        source = f"{package}/__init__.py"
        stat = _regular_file(source)
        if stat is None:
            return None
        spec = _spec(name, source, f"{package}/__pycache__/__init__{_CACHED}", stat)
        spec.submodule_search_locations = [package]
        return spec


def _regular_file(path: str) -> os.stat_result | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat if stat.st_mode & _FILE_TYPE == _REGULAR else None


def _spec(name: str, source: str, cached: str, stat: os.stat_result) -> ModuleSpec:
    spec = ModuleSpec(name, _Loader(name, source, cached, stat), origin=source)
    spec.has_location = True
    spec.cached = cached
    return spec


class _Loader(SourceFileLoader):
    """Python's own, but for where the code comes from if it is cached and fits."""

    def __init__(self, name: str, source: str, cached: str, stat: os.stat_result) -> None:
        super().__init__(name, source)
        self._cached = cached
        self._stat = stat

    def get_code(self, fullname: str) -> CodeType | None:
        code = self._cached_code()
        # With another file's name in it the directory has been moved: Python's own puts that right.
        return code if code is not None and code.co_filename == self.path else super().get_code(fullname)

    def _cached_code(self) -> CodeType | None:
        try:
            fd = os.open(self._cached, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            data = os.read(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)
        if data[:16] != _header(self._stat):
            return None
        code: CodeType = marshal.loads(data[16:])  # noqa: S302 - as Python's own does
        return code


def _header(stat: os.stat_result) -> bytes:
    """Of a file with code that is valid for as long as its source has this time and size (PEP 552)."""
    time, size = int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF
    return MAGIC_NUMBER + bytes(4) + time.to_bytes(4, "little") + size.to_bytes(4, "little")
