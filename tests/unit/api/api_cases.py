"""What the tests of podlite.api share: the data files, and pods made of the smallest one and a few changes."""

from __future__ import annotations

import os
from typing import Any

from podlite.api.decode import from_builtins
from podlite.api.pod import Pod
from podlite.api.yaml_source import load, plain

DATA = os.path.join(os.path.dirname(__file__), "data")


def data_lines(name: str) -> list[str]:
    """The lines of a data file that are no comments."""
    with open(os.path.join(DATA, name), encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file if not line.startswith("#")]


def data_yaml(name: str) -> Any:
    """The one document of a YAML data file."""
    with open(os.path.join(DATA, name), encoding="utf-8") as file:
        return document(file.read())


def document(text: str) -> Any:
    """The one document of a YAML text, which must be readable."""
    roots, problems = load(text, "test.yaml")
    assert not problems
    assert len(roots) == 1
    return plain(roots[0])


def pod_dict(spec: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """A pod "web" with one container {name: a, image: nginx}, and what is laid over it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", **(metadata or {})},
        "spec": {"containers": [{"name": "a", "image": "nginx"}], **(spec or {})},
    }


def pod(spec: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None) -> Pod:
    """The same as an object, decoded but not defaulted."""
    return from_builtins(pod_dict(spec, metadata), Pod)
