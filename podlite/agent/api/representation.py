"""Objects in the form that a client wants: as they are, as rows of a Table, or their metadata only.

Source: k8s.io/apiserver/pkg/endpoints/handlers/response.go and metav1.Table, TableOptions, PartialObjectMetadata
(k8s.io/apimachinery/pkg/apis/meta/v1/types.go), Kubernetes 1.36.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from podlite.agent.api.errors import ApiError, bad_request
from podlite.agent.api.negotiate import AS_IT_IS, PARTIAL, PARTIAL_LIST, TABLE, Form, negotiate, not_acceptable
from podlite.agent.printers.tables import COLUMNS, cells, conditions, object_type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from podlite.api.meta import ObjectMeta

METADATA, OBJECT, NONE = "Metadata", "Object", "None"

Plain = dict[str, Any]


class Representation:
    """For the answer to one request: what of a kind is shown how."""

    def __init__(self, kind: str, form: Form = AS_IT_IS, include: str = METADATA) -> None:
        """`include` is how much of each object a Table's rows carry."""
        self._kind = kind
        self._form = form
        self._include = include
        self._columns_said = False

    @property
    def is_plain(self) -> bool:
        """Whether objects are shown as they are."""
        return not self._form.kind

    def one(self, value: Any) -> Any:
        """One object. Raises ApiError where the form is one of lists."""
        match self._form.kind:
            case "":
                return value
            case "Table":
                return self._table([value], value.metadata.resource_version)
            case "PartialObjectMetadata":
                return self._partial(value.metadata)
        raise self._no_list()

    def _no_list(self) -> ApiError:
        return not_acceptable(f"you requested {PARTIAL_LIST}, but the requested object is not a list ({self._kind})")

    def many(self, values: Iterable[Any], version: str) -> Any:
        """A list. Raises ApiError where the form is one of single objects."""
        values = list(values)
        match self._form.kind:
            case "":
                return {"kind": f"{self._kind}List", "apiVersion": "v1", **_at(version), "items": values}
            case "Table":
                return self._table(values, version)
            case "PartialObjectMetadataList":
                items = [self._partial(each.metadata) for each in values]
                return {"kind": PARTIAL_LIST, "apiVersion": self._form.api_version, **_at(version), "items": items}
        raise not_acceptable(f"you requested {PARTIAL}, but the requested object is a list ({self._kind}List)")

    def check_watched(self) -> None:
        """Raises ApiError where a watch's objects cannot be in the form."""
        if self._form.kind == PARTIAL_LIST:
            raise self._no_list()

    def bookmark(self, version: str) -> Any:
        """What a watch's bookmark carries: an object that is nothing but its version."""
        if self.is_plain:
            meta = {"resourceVersion": version, "creationTimestamp": None}
            return {"kind": self._kind, "apiVersion": "v1", "metadata": meta}
        empty = object_type(self._kind)()
        empty.metadata.resource_version = version
        return self.one(empty)

    def _table(self, values: list[Any], version: str) -> Plain:
        """A client keeps the columns of the first of several tables: only that has them."""
        columns: list[Plain] | None = None
        if not self._columns_said:
            self._columns_said = True
            columns = [
                {
                    "name": each.name,
                    "type": each.type,
                    "format": each.format,
                    "description": each.description,
                    "priority": each.priority,
                }
                for each in COLUMNS[self._kind]
            ]
        now_ns = time.time_ns()
        return {
            "kind": TABLE,
            "apiVersion": self._form.api_version,
            **_at(version),
            "columnDefinitions": columns,
            "rows": [self._row(each, now_ns) for each in values],
        }

    def _row(self, value: Any, now_ns: int) -> Plain:
        found: Plain = {"cells": cells(self._kind, value, now_ns)}
        about = conditions(self._kind, value)
        if about:
            found["conditions"] = about
        shown = {OBJECT: value, NONE: None}
        found["object"] = shown[self._include] if self._include in shown else self._partial(value.metadata)
        return found

    def _partial(self, meta: ObjectMeta) -> Plain:
        return {"kind": PARTIAL, "apiVersion": self._form.api_version, "metadata": meta}


def _at(version: str) -> Plain:
    return {"metadata": {"resourceVersion": version}}


def representation(request: Request, kind: str) -> Representation:
    """What the request asks for. Raises ApiError for what there is not."""
    form = negotiate(",".join(request.headers.getlist("accept")))
    if form.kind != TABLE:
        return Representation(kind, form)
    include = request.query_params.get("includeObject", "")
    if include not in ("", METADATA, OBJECT, NONE):
        must = "must be 'Metadata', 'Object', 'None', or empty"
        raise bad_request(f'Unable to convert to Table as requested: includeObject: Invalid value: "{include}": {must}')
    return Representation(kind, form, include or METADATA)
