"""anyio's dataclasses become some when the first object is made, or somebody asks for their fields.

Each costs 0.3 ms, for its methods are written and compiled when it is defined, and anyio has nine on the way of a small
pod, which uses none of them. Nobody else's are put off: of what fields there are, and of the defaults that are
attributes of the class, a program may want to know at once. Standard library only.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# What a dataclass has without any object of it (dataclasses.fields, match statements).
_ATTRIBUTES = ("__dataclass_fields__", "__dataclass_params__", "__match_args__")
# Options with which the class stays the one that was decorated.
_SIMPLE = frozenset(("eq", "frozen", "repr"))

_lock = RLock()


def putting_off(dataclass: Callable[..., Any]) -> Callable[..., Any]:
    """`dataclasses.dataclass`, but for when it does its work."""

    def decorator(cls: type | None = None, /, **options: Any) -> Any:
        def decorate(cls: type) -> Any:
            if cls.__module__.startswith("anyio.") and options.keys() <= _SIMPLE and "__init__" not in vars(cls):
                _put_off(cls, lambda: dataclass(cls, **options))
                return cls
            return dataclass(cls, **options)

        return decorate if cls is None else decorate(cls)

    return decorator


def _put_off(cls: type, process: Callable[[], object]) -> None:
    stand_ins: dict[str, Any] = {}

    def make() -> None:
        with _lock:
            for name in stand_ins:
                delattr(cls, name)
            if stand_ins:  # else made by another thread meanwhile
                stand_ins.clear()
                process()

    def __init__(self: Any, *arguments: Any, **named: Any) -> None:  # noqa: N807
        make()
        cls.__init__(self, *arguments, **named)  # type: ignore[misc]

    stand_ins["__init__"] = __init__
    stand_ins.update((name, _Attribute(name, make)) for name in _ATTRIBUTES)
    for name, stand_in in stand_ins.items():
        setattr(cls, name, stand_in)


class _Attribute:
    """Of the class: whoever asks for it gets the dataclass's."""

    def __init__(self, name: str, make: Callable[[], None]) -> None:
        self._name = name
        self._make = make

    def __get__(self, instance: object, owner: type) -> Any:
        self._make()
        return getattr(owner, self._name)
