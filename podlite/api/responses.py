"""What an API server answers beside the objects themselves: lists and errors.

Source: k8s.io/apimachinery/pkg/apis/meta/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import field

from podlite.api.base import Object, constant, empty_list

if TYPE_CHECKING:
    from podlite.api.base import Int32


class ShardInfo(Object):
    selector: str = field(default_factory=str)


class ListMeta(Object):
    self_link: str = ""
    resource_version: str = ""
    continue_: str = ""
    remaining_item_count: int | None = None
    shard_info: ShardInfo | None = None


class List(Object):
    """Objects of any kind, each with its own `kind`; `items` are plain dicts or objects of this package."""

    kind: str = field(default_factory=constant("List"))
    api_version: str = field(default_factory=constant("v1"))
    metadata: ListMeta = field(default_factory=ListMeta)
    items: list[Any] = field(default_factory=empty_list)


class StatusCause(Object):
    """One cause of an error; `field` is the path, `reason` one of the FieldValue… words."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(Object):
    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: list[StatusCause] = []
    retry_after_seconds: Int32 = 0


class Status(Object):
    """The answer to a call that returns no object, above all an error: `code` is the HTTP status."""

    kind: str = field(default_factory=constant("Status"))
    api_version: str = field(default_factory=constant("v1"))
    metadata: ListMeta = field(default_factory=ListMeta)
    status: str = ""
    message: str = ""
    reason: str = ""
    details: StatusDetails | None = None
    code: Int32 = 0
