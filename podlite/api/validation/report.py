"""Collects what validation finds, in the API server's words.

Source: k8s.io/apimachinery/pkg/util/validation/field/errors.go, Kubernetes 1.36. A value that is an object
is shown as its v1 JSON, where the API server shows its internal type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podlite.api import problems
from podlite.api.gotext import quote, shown

if TYPE_CHECKING:
    from collections.abc import Iterable


class Report:
    """What is wrong, in the order in which it was found."""

    __slots__ = ("problems",)

    def __init__(self) -> None:
        self.problems: list[problems.Problem] = []

    def required(self, path: str, detail: str = "") -> None:
        self._add(path, "Required value", problems.REQUIRED, detail)

    def invalid(self, path: str, value: Any, detail: str) -> None:
        self._add(path, f"Invalid value: {shown(value)}", problems.INVALID, detail)

    def invalids(self, path: str, value: Any, details: Iterable[str]) -> None:
        """One problem for each detail."""
        for detail in details:
            self.invalid(path, value, detail)

    def duplicate(self, path: str, value: Any) -> None:
        self._add(path, f"Duplicate value: {shown(value)}", problems.DUPLICATE)

    def not_found(self, path: str, value: Any, detail: str = "") -> None:
        self._add(path, f"Not found: {shown(value)}", problems.NOT_FOUND, detail)

    def not_supported(self, path: str, value: Any, supported: Iterable[str]) -> None:
        """The supported values are listed in the order given; the API server sorts most of its sets."""
        listed = ", ".join([quote(each) for each in supported])
        self._add(path, f"Unsupported value: {shown(value)}", problems.NOT_SUPPORTED, f"supported values: {listed}")

    def forbidden(self, path: str, detail: str) -> None:
        self._add(path, "Forbidden", problems.FORBIDDEN, detail)

    def too_long(self, path: str, limit: int) -> None:
        self._add(path, "Too long", problems.TOO_LONG, f"may not be more than {limit} bytes")

    def too_many(self, path: str, count: int, limit: int) -> None:
        self._add(path, f"Too many: {count}", problems.TOO_MANY, f"must have at most {limit} items")

    def _add(self, path: str, message: str, reason: str, detail: str = "") -> None:
        self.problems.append(problems.Problem(path, f"{message}: {detail}" if detail else message, reason))
