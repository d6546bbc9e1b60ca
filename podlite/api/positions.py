"""Where in a text the field is that a path names."""

from __future__ import annotations

from podlite.api.problems import Problem
from podlite.api.yaml_source import MAPPING, SEQUENCE, Node


def placed(problem: Problem, root: Node, prefix: str, file: str) -> Problem:
    """The problem with the place of its field, or of the nearest thing around it that is in the text.

    `root` is the object's node, `prefix` the object's own path in its document, which is put before the field's.
    """
    node = find(root, problem.path)
    path = f"{prefix}.{problem.path}".strip(".") if prefix else problem.path
    return Problem(path, problem.message, problem.reason, file, node.line, node.column)


def find(root: Node, path: str) -> Node:
    """The node that a path leads to, as far as it leads: the last one that exists."""
    node = root
    for segment in segments(path):
        found: Node | None = None
        if node.kind == MAPPING:
            found = node.get(segment)
        elif node.kind == SEQUENCE and segment.isdecimal() and int(segment) < len(node.value):
            found = node.value[int(segment)]
        if found is None:
            break
        node = found
    return node


def segments(path: str) -> list[str]:
    """`spec.containers[0].resources.limits[cpu]` → spec, containers, 0, resources, limits, cpu."""
    parts: list[str] = []
    while path:
        if path[0] == "[":
            inside, _, path = path[1:].partition("]")
            parts.append(inside)
            path = path.removeprefix(".")
            continue
        ends = [end for end in (path.find("."), path.find("[")) if end >= 0]
        end = min(ends, default=len(path))
        parts.append(path[:end])
        path = path[end:].removeprefix(".")
    return parts
