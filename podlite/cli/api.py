"""What the verbs that ask the agent's API share: kinds of objects, namespaces, and errors as kubectl says them."""

from __future__ import annotations

import argparse
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from podlite.errors import PodliteError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from podlite.agent.client import Client

DEFAULT_NAMESPACE = "default"


class Kind(NamedTuple):
    """`resource` is its name in paths and messages."""

    kind: str
    resource: str
    singular: str
    short: str


KINDS = (
    Kind("Pod", "pods", "pod", "po"),
    Kind("Event", "events", "event", "ev"),
    Kind("ConfigMap", "configmaps", "configmap", "cm"),
    Kind("Secret", "secrets", "secret", ""),
)


def find_kind(word: str) -> Kind:
    """By any of its names. Raises UsageError."""
    lower = word.lower()
    for kind in KINDS:
        if lower and lower in (kind.resource, kind.singular, kind.short):
            return kind
    listed = ", ".join(each.resource for each in KINDS)
    raise UsageError(f'the server doesn\'t have a resource type "{word}"', hint=f"there are {listed}")


def named(words: Sequence[str], *, kind: Kind | None = None) -> tuple[Kind, list[str]]:
    """(kind, names) of `pods`, `pods NAME…` or `pod/NAME…`; with `kind`, words without a slash are names.

    Raises UsageError.
    """
    if any("/" in word for word in words):
        pairs = [word.partition("/") for word in words]
        if not all(slash and name for _, slash, name in pairs):
            raise UsageError("there is no need to specify a resource type as a separate argument with TYPE/NAME")
        kinds = {find_kind(word) for word, _, _ in pairs}
        if len(kinds) > 1:
            raise UsageError("all objects have to be of one kind")
        return kinds.pop(), [name for _, _, name in pairs]
    if kind is not None:
        return kind, list(words)
    if not words:
        raise UsageError("you must specify the type of resource to get", hint="for example: podlite get pods")
    return find_kind(words[0]), list(words[1:])


def chosen(words: Sequence[str]) -> list[tuple[Kind, list[str]]]:
    """As `named`, of several kinds: `pods,cm`, `all`, or `pod/NAME cm/NAME`. Raises UsageError."""
    if words and "/" in words[0]:
        found: dict[Kind, list[str]] = {}
        for word in words:
            kind, names = named([word])
            if not names or "/" not in word:
                raise UsageError("there is no need to specify a resource type as a separate argument with TYPE/NAME")
            found.setdefault(kind, []).extend(names)
        return list(found.items())
    if words and ("," in words[0] or words[0] == "all"):
        # What kubectl calls all is what runs; of that there are pods here.
        kinds = dict.fromkeys(find_kind("pods" if each == "all" else each) for each in words[0].split(","))
        return [(kind, list(words[1:])) for kind in kinds]
    return [named(words)]


def add_namespaces(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--namespace", metavar="NAME", default="", help=f"the namespace ({DEFAULT_NAMESPACE})")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="all namespaces")


def add_selectors(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-l", "--selector", metavar="LABELS", default="", help="only what has these labels: a=b,c in (d,e)"
    )
    parser.add_argument(
        "--field-selector", metavar="FIELDS", default="", help="only what has these fields: status.phase=Running"
    )


def namespace(arguments: argparse.Namespace) -> str:
    """The namespace that is asked for, empty for all."""
    if getattr(arguments, "all_namespaces", False):
        return ""
    return arguments.namespace or DEFAULT_NAMESPACE


def path(kind: Kind, in_namespace: str, name: str = "") -> str:
    """The path of a collection, or of one object."""
    base = f"/api/v1/namespaces/{in_namespace}/{kind.resource}" if in_namespace else f"/api/v1/{kind.resource}"
    return f"{base}/{name}" if name else base


@contextmanager
def server_errors() -> Iterator[None]:
    """Errors of the API in kubectl's form."""
    from podlite.agent.client import AnswerError

    try:
        yield
    except AnswerError as error:
        raise server_error(error) from None


def server_error(error: Any) -> PodliteError:
    """`Error from server (NotFound): pods "web" not found`."""
    return PodliteError(f"Error from server ({error.reason}): {error.message}", hint=error.hint)


def find_objects(
    client: Client, kind: Kind, names: Sequence[str], arguments: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[PodliteError]]:
    """The objects that are meant, by name, or by namespace and selectors; and what was not found.

    Raises NoAgentError, PodliteError.
    """
    from podlite.agent.client import AnswerError

    if not names:
        with server_errors():
            answer = client.request(
                "GET",
                path(kind, namespace(arguments)),
                labelSelector=getattr(arguments, "selector", "") or None,
                fieldSelector=getattr(arguments, "field_selector", "") or None,
            )
        return answer["items"], []
    found: list[dict[str, Any]] = []
    missing: list[PodliteError] = []
    for name in names:
        try:
            found.append(client.request("GET", path(kind, namespace(arguments) or DEFAULT_NAMESPACE, name)))
        except AnswerError as error:
            if error.reason != "NotFound":
                raise server_error(error) from None
            missing.append(server_error(error))
    return found, missing


def version_of(client: Client, where: str, name: str) -> str:
    """The version of the object of that name in the collection `where`; empty if there is none. Raises PodliteError."""
    from podlite.agent.client import AnswerError

    try:
        return str(client.request("GET", f"{where}/{name}")["metadata"]["resourceVersion"])
    except AnswerError as error:
        if error.reason != "NotFound":
            raise server_error(error) from None
        return ""


def watched(
    client: Client, where: str, name: str, deadline: float, decide: Callable[[dict[str, Any]], bool], since: str = "0"
) -> bool:
    """Watches an object until `decide` says so of an event; False when it is `deadline` by the monotonic clock before.

    From version 0 the object as it is comes first. Raises PodliteError.
    """
    while (left := deadline - time.monotonic()) > 0:
        with server_errors():
            for event in client.watch(
                where,
                fieldSelector=f"metadata.name={name}",
                resourceVersion=since,
                timeoutSeconds=max(1, min(int(left + 0.999), 3600)),
            ):
                if decide(event):
                    return True
                if time.monotonic() > deadline:
                    return False
    return False
