"""`$(NAME)` references in commands, arguments, environment values and subPathExpr.

`$(NAME)` is the variable's value, or stays as it is where there is none; `$$` is a dollar sign; a `$` before
anything else, and a `$(` that is never closed, stand for themselves.

Source: the expansion syntax of Kubernetes (third_party/forked/golang/expansion, and the API reference of EnvVar).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from podlite.api.container import EnvVar


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with its references replaced; those to unknown variables stay. Pure."""
    if "$" not in text:
        return text
    return _expand(text, lambda name: variables.get(name, f"$({name})"))


def expand_all(texts: Iterable[str], variables: Mapping[str, str]) -> list[str]:
    """A command or its arguments, expanded. Pure."""
    return [expand(text, variables) for text in texts]


def expand_strictly(text: str, variables: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text expanded, and the sorted names of variables that are unset or empty: a subPathExpr needs them all."""
    missing: set[str] = set()

    def value(name: str) -> str:
        found = variables.get(name, "")
        if not found:
            missing.add(name)
        return found

    return _expand(text, value), sorted(missing)


def static_variables(env: Iterable[EnvVar]) -> dict[str, str]:
    """What an exec probe's command sees: the values as they are written, and nothing for those from elsewhere."""
    return {variable.name: variable.value for variable in env}


def _expand(text: str, value: Callable[[str], str]) -> str:
    pieces: list[str] = []
    done = 0
    while True:
        at = text.find("$", done)
        if at < 0 or at + 1 == len(text):
            break
        pieces.append(text[done:at])
        following = text[at + 1]
        close = text.find(")", at + 2) if following == "(" else -1
        if close >= 0:
            pieces.append(value(text[at + 2 : close]))
            done = close + 1
        else:
            pieces.append("$" if following == "$" else f"${following}")
            done = at + 2
    pieces.append(text[done:])
    return "".join(pieces)
