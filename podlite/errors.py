"""What podlite raises on purpose, for a person to read.

An error's text is one or more whole sentences that say what was being done, to what, and why it did
not work. Advice is kept apart, in `hint`, so that a program can show the fact alone. An error is
wrapped once, where the operation is known, and logged once, at the edge that ends it.
"""

from __future__ import annotations


class PodliteError(Exception):
    """The base of everything podlite raises on purpose.

    `hint` says what the user could do about it, or is empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(PodliteError):
    """The command line was not understood (exit status 2)."""


class PrivilegeError(PodliteError):
    """The machine, or the user's rights on it, lack something without which the operation cannot work."""


def explain(error: BaseException) -> str:
    """One line for any exception: podlite's own as it is, an OSError without its `[Errno N]` prefix."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error).strip() or type(error).__name__


def first_error(error: BaseException) -> BaseException:
    """What tasks failed with first, without the groups around it: what it has cancelled is of no interest. Pure."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def only_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """A task group's one error as itself, as a rule the caller's own; the group where it has more. Pure."""
    return group.exceptions[0] if len(group.exceptions) == 1 else group
