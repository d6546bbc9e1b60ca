"""The order of `--sort-by`: numbers by size, text as a person sorts it, what is not there first. Pure.

Source: k8s.io/kubectl/pkg/cmd/get/sorter.go, Kubernetes 1.36.
"""

from __future__ import annotations

import re
from typing import Any

from podlite.cli.jsonpath import relaxed, text_of
from podlite.errors import UsageError


def sorted_by(objects: list[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    """The objects, by what the path leads to in each. Raises UsageError for a path that leads nowhere in any."""
    template = relaxed(path)
    found = [template.find(each) for each in objects]
    if objects and not any(found):
        raise UsageError(f"couldn't find any field with path {path!r} in the list of objects")
    order = sorted(range(len(objects)), key=lambda index: _key(found[index]))
    return [objects[index] for index in order]


def _key(found: list[Any]) -> tuple[int, Any]:
    value = found[0] if found else None
    if value is None:
        return 0, 0
    if isinstance(value, int | float):
        return 1, value
    # `web-10` comes after `web-9`: digits are compared as numbers. Letters and digits alternate, so that each is
    # compared with its like.
    return 2, [int(each) if each.isdecimal() else each for each in re.split(r"(\d+)", text_of(value))]
