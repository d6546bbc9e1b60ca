"""Modules that asyncio, anyio, msgspec and argparse import for what a small pod never needs, put off until it is used.

They take 20 of the 90 ms in which `podlite run` imports what it needs: ssl with its libraries and what anyio has of
sockets on top of it, inspect with all that knows Python's own syntax, and so on. `install` is for podlite's own
command only, and of its verbs for those that end with a pod or an answer, before anything else is imported: whoever
uses podlite as a library has an import system that is his.
The modules are there and real, only not executed: the first attribute that is asked for executes them (PEP 562), in
whichever thread, once. What everybody asks for at once has a stand-in until then: see _WITHOUT.

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
    from types import CoroutineType, FrameType, ModuleType
    from typing import Any

# Module → functions in it that others import by name when they are imported themselves: those are stood in for.
LATE: dict[str, tuple[str, ...]] = {
    "anyio._core._sockets": ("convert_ipv6_sockaddr",),
    "anyio._core._streams": ("create_memory_object_stream",),
    "ast": (),
    "asyncio.sslproto": (),
    "dataclasses": ("dataclass", "field"),
    "gettext": (),
    "inspect": ("isasyncgen", "isawaitable", "iscoroutine", "iscoroutinefunction", "isgenerator", "unwrap"),
    "linecache": (),
    "locale": (),
    "logging": ("getLogger",),
    "msgspec._json_schema": ("schema", "schema_components"),
    "msgspec.inspect": (),
    "platform": (),
    "ssl": (),
    "subprocess": (),
    "textwrap": ("dedent", "indent"),
    "traceback": ("extract_stack",),
    "typing_extensions": (),
}


# inspect.CO_COROUTINE: a function defined with `async def`.
_CO_COROUTINE = 0x80


def _ast(late: ModuleType) -> dict[str, Any]:
    """The syntax tree that anyio looks for its own names in: the types of its nodes are the interpreter's."""
    import _ast

    return {name: value for name, value in vars(_ast).items() if not name.startswith("__")}


def _dataclasses(late: ModuleType) -> dict[str, Any]:
    from podlite.late_dataclasses import putting_off

    return {"dataclass": putting_off(late.dataclass)}


def _gettext(late: ModuleType) -> dict[str, Any]:
    """argparse asks for its messages' translations, and no catalogue has them."""
    return {"gettext": lambda message: message, "ngettext": lambda one, many, count: one if count == 1 else many}


def _inspect(late: ModuleType) -> dict[str, Any]:
    """What anyio asks of itself when it is imported and of tasks when a scope is cancelled, and asyncio of what it is
    to call at a signal, or to show.
    """
    from types import FunctionType

    executed_iscoroutinefunction, executed_unwrap = late.iscoroutinefunction, late.unwrap

    def getsource(module: ModuleType) -> str:
        # Not by its loader, which would ask tokenize for the encoding.
        with open(module.__file__ or "", encoding="utf-8") as file:
            return file.read()

    def getcoroutinestate(coroutine: CoroutineType[Any, Any, Any]) -> str:
        if coroutine.cr_running:
            return "CORO_RUNNING"
        if coroutine.cr_suspended:
            return "CORO_SUSPENDED"
        return "CORO_CLOSED" if coroutine.cr_frame is None else "CORO_CREATED"

    def iscoroutinefunction(function: object) -> bool:
        plain = getattr(function, "__func__", function)
        # With attributes, it may be marked as one.
        if type(plain) is not FunctionType or plain.__dict__:
            return bool(executed_iscoroutinefunction(function))
        return bool(plain.__code__.co_flags & _CO_COROUTINE)

    def isfunction(object: object) -> bool:
        return isinstance(object, FunctionType)

    def unwrap(function: Callable[..., Any]) -> Any:
        return executed_unwrap(function) if hasattr(function, "__wrapped__") else function

    states = ("CORO_CREATED", "CORO_RUNNING", "CORO_SUSPENDED", "CORO_CLOSED")
    functions = (getsource, getcoroutinestate, iscoroutinefunction, isfunction, unwrap)
    return {**{each.__name__: each for each in functions}, **{each: each for each in states}}


def _logging(late: ModuleType) -> dict[str, Any]:
    """The loggers that asyncio and concurrent.futures make when they are imported."""
    executed_get_logger = late.getLogger

    def get_logger(name: str | None = None) -> Any:
        return _Logger(name) if name in ("asyncio", "concurrent.futures") else executed_get_logger(name)

    return {"DEBUG": 10, "getLogger": get_logger}


class _Logger:
    """Nothing but its name, until something is logged or asked for: then the logger of that name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, *arguments: Any, **named: Any) -> None:
        # As long as nobody has used the module, nobody has asked for such things.
        if executed("logging"):
            self.__getattr__("debug")(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        import logging

        logging.raiseExceptions  # noqa: B018 - executes it
        return getattr(logging.getLogger(self._name), name)


def _platform(late: ModuleType) -> dict[str, Any]:
    """What uuid asks when it is imported."""
    return {"system": lambda: "Linux"}


def _subprocess(late: ModuleType) -> dict[str, Any]:
    """The defaults of asyncio's arguments."""
    return {"PIPE": -1, "STDOUT": -2, "DEVNULL": -3}


def _traceback(late: ModuleType) -> dict[str, Any]:
    """The stack is the caller's: pyparsing, with which matplotlib reads, compares the lines that it is called from."""
    executed = late.extract_stack

    def extract_stack(f: FrameType | None = None, limit: int | None = None) -> Any:
        return executed(sys._getframe(1) if f is None else f, limit)

    return {"extract_stack": extract_stack}


def _typing_extensions(late: ModuleType) -> dict[str, Any]:
    """What msgspec takes from there if it is installed, and from here if not; from Python 3.11 on they are the same.

    And for anyio a type variable whose default means nothing to a program that runs, and an object like no other.
    """
    import typing

    def type_var(name: str, *constraints: Any, default: Any = None, **options: Any) -> Any:
        return typing.TypeVar(name, *constraints, **options)

    same = {name: getattr(typing, name) for name in ("NotRequired", "Required", "get_type_hints")}
    return {"TypeVar": type_var, "sentinel": _Sentinel, **same}


class _Sentinel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


# Module → what others ask it for on the way of a small pod, and get without it.
_WITHOUT: dict[str, Callable[[ModuleType], dict[str, Any]]] = {
    "ast": _ast,
    "dataclasses": _dataclasses,
    "gettext": _gettext,
    "inspect": _inspect,
    "logging": _logging,
    "platform": _platform,
    "subprocess": _subprocess,
    "traceback": _traceback,
    "typing_extensions": _typing_extensions,
}

_lock = RLock()


def install() -> None:
    """Puts off the imports of LATE in this process, as far as they have not happened yet. Idempotent."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def executed(name: str) -> bool:
    """Whether a module of LATE that has been imported has been used, too."""
    spec = sys.modules[name].__spec__
    return spec is not None and not isinstance(spec.loader, _Loader)


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
        if module.__name__ in _WITHOUT:
            module.__dict__.update(_WITHOUT[module.__name__](module))
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

    def _stand_in(self, module: ModuleType, name: str) -> _StandIn:
        def real() -> Any:
            load = module.__dict__.get("__getattr__")
            if load is not None:
                self._execute(module, load)
            return getattr(module, name)

        return _StandIn(real)


class _StandIn:
    """What is called, or subscripted with its types, as the real one is then: create_memory_object_stream[bytes](1)."""

    __slots__ = ("_real",)

    def __init__(self, real: Callable[[], Any]) -> None:
        self._real = real

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._real()(*arguments, **named)

    def __getitem__(self, types: Any) -> Any:
        return self._real()[types]
