"""What can be wrong with a manifest, and the error that carries all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from podlite.errors import PodliteError

if TYPE_CHECKING:
    from collections.abc import Iterable

# `Problem.reason`, the API server's causes (metav1.CauseType).
REQUIRED = "FieldValueRequired"
DUPLICATE = "FieldValueDuplicate"
INVALID = "FieldValueInvalid"
NOT_SUPPORTED = "FieldValueNotSupported"
NOT_FOUND = "FieldValueNotFound"
FORBIDDEN = "FieldValueForbidden"
TOO_LONG = "FieldValueTooLong"
TOO_MANY = "FieldValueTooMany"
TYPE_INVALID = "FieldValueTypeInvalid"


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    `path` names the field from the object's root (`spec.containers[0].image`), or is empty where the text cannot
    be read at all. `message` is what is wrong with it, in the API server's words where it has some; `reason` is
    one of the constants above. `line` and `column` count from 1 and are 0 while the place is not known; a
    field that is missing is placed at what ought to contain it.
    """

    path: str
    message: str
    reason: str = INVALID
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.path}: {self.message}" if self.path else f"{place}{self.message}"


class ManifestError(PodliteError):
    """The manifests cannot be used. `problems` holds every problem that was found, in the order of the text.

    The text of the error is one line for each problem.
    """

    def __init__(self, problems: Iterable[Problem], *, hint: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([str(problem) for problem in self.problems]), hint=hint)
