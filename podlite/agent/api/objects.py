"""/api/v1/…/configmaps, secrets and events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podlite.agent.api.decode import is_dry_run, read_delete_options, read_object
from podlite.agent.api.errors import ApiError, already_exists, bad_request, conflict, internal, not_found
from podlite.agent.api.http import answer, read_body
from podlite.agent.api.listing import list_or_watch
from podlite.agent.api.representation import representation
from podlite.api.responses import Status, StatusDetails
from podlite.kubelet.gotime import rfc3339
from podlite.kubelet.types import KubeletError
from podlite.runtime.names import new_uid

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from podlite.agent.api.cache import WatchCache
    from podlite.agent.api.state import ApiState
    from podlite.agent.controller import PodController


class ObjectHandlers:
    """The handlers of ConfigMaps, or of Secrets."""

    def __init__(self, state: ApiState, kind: str, resource: str, cache: WatchCache[Any]) -> None:
        self._state = state
        self._kind = kind
        self._resource = resource
        self._cache = cache

    async def collection(self, request: Request) -> Response:
        return await list_or_watch(request, self._resource, self._kind, self._cache)

    async def get(self, request: Request) -> Response:
        return answer(representation(request, self._kind).one(self._find(request)))

    def _find(self, request: Request) -> Any:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        found = self._cache.get(f"{namespace}/{name}")
        if found is None:
            raise not_found(self._resource, name)
        return found

    async def create(self, request: Request) -> Response:
        value, _ = read_object(request, await read_body(request), self._kind)
        meta = value.metadata
        if self._cache.get(f"{meta.namespace}/{meta.name}") is not None:
            raise already_exists(self._resource, meta.name)
        meta.uid, meta.creation_timestamp = new_uid(), rfc3339(self._now())
        return answer(await self._put(request, value), 201)

    async def replace(self, request: Request) -> Response:
        """PUT: with a resourceVersion only if the object has not changed since."""
        before = self._find(request)
        value, _ = read_object(request, await read_body(request), self._kind)
        meta = value.metadata
        if meta.name != before.metadata.name:
            raise bad_request("the name of the object does not match the name on the URL")
        if meta.resource_version and meta.resource_version != before.metadata.resource_version:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise conflict(self._resource, meta.name, why)
        meta.uid, meta.creation_timestamp = before.metadata.uid, before.metadata.creation_timestamp
        return answer(await self._put(request, value))

    async def _put(self, request: Request, value: Any) -> Any:
        meta = value.metadata
        meta.resource_version = ""
        if is_dry_run(request):
            return value
        try:
            await self._controller.put_object(value)
        except KubeletError as error:
            raise ApiError(422, "Invalid", str(error), StatusDetails(name=meta.name, kind=self._kind)) from None
        return self._cache.get(f"{meta.namespace}/{meta.name}") or value

    async def delete(self, request: Request) -> Response:
        value = self._find(request)
        options = read_delete_options(request, await read_body(request))
        meta = value.metadata
        wanted = options.preconditions.get("uid", meta.uid)
        if wanted != meta.uid:
            why = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {meta.uid}"
            raise conflict(self._resource, meta.name, why)
        if "All" not in options.dry_run:
            await self._controller.remove_object(value)
        details = StatusDetails(name=meta.name, kind=self._resource, uid=meta.uid)
        return answer(Status(status="Success", details=details))

    @property
    def _controller(self) -> PodController:
        if self._state.controller is None:
            raise internal("no agent runs here, so nothing can be kept")
        return self._state.controller

    def _now(self) -> int:
        if self._state.node is None:
            raise internal("no agent runs here, so nothing can be kept")
        return self._state.node.kubelet.clock.now_ns()


class EventHandlers:
    """The handlers of events: they are made by the kubelet only."""

    def __init__(self, state: ApiState) -> None:
        self._state = state

    async def collection(self, request: Request) -> Response:
        return await list_or_watch(request, "events", "Event", self._state.events)

    async def get(self, request: Request) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        found = self._state.events.get(name)
        if found is None or found.metadata.namespace != namespace:
            raise not_found("events", name)
        return answer(representation(request, "Event").one(found))
