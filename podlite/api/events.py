"""Events (core/v1).

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from podlite.api.base import Object, constant, null
from podlite.api.meta import ObjectMeta
from podlite.api.references import ObjectReference

if TYPE_CHECKING:
    from podlite.api.base import Int32, MicroTime, Time


class EventSource(Object):
    component: str = ""
    host: str = ""


class EventSeries(Object):
    count: Int32 = 0
    last_observed_time: MicroTime | None = field(default_factory=null)


class Event(Object):
    """Something that happened to `involved_object`; `type` is Normal or Warning."""

    kind: str = field(default_factory=constant("Event"))
    api_version: str = field(default_factory=constant("v1"))
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    involved_object: ObjectReference = field(default_factory=ObjectReference)
    reason: str = ""
    message: str = ""
    source: EventSource = field(default_factory=EventSource)
    first_timestamp: Time | None = field(default_factory=null)
    last_timestamp: Time | None = field(default_factory=null)
    count: Int32 = 0
    type: str = ""
    event_time: MicroTime | None = field(default_factory=null)
    series: EventSeries | None = None
    action: str = ""
    related: ObjectReference | None = None
    reporting_component: str = field(default_factory=str)
    reporting_instance: str = field(default_factory=str)
