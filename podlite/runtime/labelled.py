"""Objects by id and by label: a kubelet asks for one pod's sandboxes among a thousand, several times in its life."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar


class HasLabels(Protocol):
    """What has a configuration with labels, which do not change while it is in the collection."""

    @property
    def config(self) -> Any: ...


T = TypeVar("T", bound=HasLabels)


class Labelled(dict[str, T]):
    """A dictionary by id that can be searched by labels. Changed by assignment and `pop` only."""

    def __init__(self) -> None:
        super().__init__()
        # (label, value) → id → object; a label that everything has is as long as the dictionary, and no help.
        self._by_label: dict[tuple[str, str], dict[str, T]] = {}

    def __setitem__(self, id: str, value: T) -> None:
        self.pop(id, None)
        super().__setitem__(id, value)
        for label in value.config.labels.items():
            self._by_label.setdefault(label, {})[id] = value

    def pop(self, id: str, default: Any = None) -> Any:
        """As a dictionary's, but that the default is None."""
        value = super().pop(id, None)
        if value is None:
            return default
        for label in value.config.labels.items():
            having = self._by_label[label]
            del having[id]
            if not having:
                del self._by_label[label]
        return value

    def having(self, labels: Mapping[str, str]) -> Iterable[T]:
        """The objects that have all of these labels, in the order in which they came."""
        if not labels:
            return list(self.values())
        groups = sorted((self._by_label.get(label, {}) for label in labels.items()), key=len)
        return [each for id, each in groups[0].items() if all(id in other for other in groups[1:])]
