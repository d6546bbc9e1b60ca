"""Modules that asyncio and anyio import for what a small pod never needs, put off until somebody uses them.

ssl with its libraries, and what anyio has of sockets on top of it, take 10 of the 60 ms in which a program imports
asyncio and anyio. `install` is for podlite's own command only, before anything else is imported: whoever uses podlite
as a library has an import system that is his. The modules are there and real, only not executed: the first attribute
that is asked for executes them (PEP 562), in whichever thread, once.

Standard library only, and as little of it as can be.
"""

from __future__ import annotations

import sys
from threading import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

# Module → functions in it that others import by name when they are imported themselves: those are stood in for.
LATE: dict[str, tuple[str, ...]] = {
    "ssl": (),
    "asyncio.sslproto": (),
    "anyio._core._sockets": ("convert_ipv6_sockaddr",),
}

_lock = RLock()


def install() -> None:
    """Puts off the imports of LATE in this process, as far as they have not happened yet. Idempotent."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in LATE:
            return None
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(name, path, target)
                if spec is not None and spec.loader is not None:
                    spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                    return spec
        return None


class _Loader:
    def __init__(self, real: Loader) -> None:
        self._real = real
        self._state = "late"

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        def load(name: str) -> Any:
            # __path__: the import system asks whether it is a package, and it is none.
            if name != "__path__" and self._execute(module, load):
                return getattr(module, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        for name in LATE[module.__name__]:
            setattr(module, name, self._stand_in(module, name))
        module.__getattr__ = load  # type: ignore[method-assign]

    def _execute(self, module: ModuleType, load: Callable[[str], Any]) -> bool:
        """Executes the module once; False to the module itself, which asks for what it has not got to yet.

        Other threads wait, and so `load` stays in its place until everything is there.
        """
        with _lock:
            if self._state == "executing":
                return False
            if self._state == "late":
                self._state = "executing"
                assert module.__spec__ is not None
                module.__spec__.loader = module.__loader__ = self._real
                try:
                    self._real.exec_module(module)
                except BaseException:
                    self._state = "late"
                    raise
                self._state = "executed"
                if module.__dict__.get("__getattr__") is load:
                    del module.__getattr__
        return True

    def _stand_in(self, module: ModuleType, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            load = module.__dict__.get("__getattr__")
            if load is not None:
                self._execute(module, load)
            return getattr(module, name)(*arguments, **named)

        return call
