"""Which path is answered by what. The paths are those of an API server, and beside them those of a kubelet.

/api/v1[/namespaces/NS]/pods …                  pods: create, get, list, watch, delete; log, exec, attach below one
/api/v1[/namespaces/NS]/events|configmaps|secrets …
/api, /api/v1, /apis, /version                  discovery
/healthz, /livez, /readyz, /metrics, /stats/summary, /pods    a kubelet's own
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute

from podlite.agent.api import discovery
from podlite.agent.api.errors import ApiError, bad_request, method_not_allowed
from podlite.agent.api.http import answer_error, handled
from podlite.agent.api.node import NodeHandlers
from podlite.agent.api.objects import EventHandlers, ObjectHandlers
from podlite.agent.api.pod_status import PodStatusHandlers
from podlite.agent.api.pods import PodHandlers
from podlite.agent.api.streams import StreamHandlers

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from podlite.agent.api.http import Handler
    from podlite.agent.api.metrics import Metrics
    from podlite.agent.api.state import ApiState

_ALL = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


def make_app(state: ApiState, metrics: Metrics | None = None) -> Starlette:
    """The ASGI application."""
    pods, streams = PodHandlers(state), StreamHandlers(state)
    node = NodeHandlers(state, metrics)
    events = EventHandlers(state)
    status = PodStatusHandlers(state)
    routes: list[Route | WebSocketRoute] = [
        *_collection("pods", GET=pods.collection, POST=pods.create, DELETE=pods.delete_all),
        _route("/api/v1/namespaces/{namespace}/pods/{name}", GET=pods.get, DELETE=pods.delete),
        _route("/api/v1/namespaces/{namespace}/pods/{name}/status", GET=pods.get, PATCH=status.patch),
        _route("/api/v1/namespaces/{namespace}/pods/{name}/log", GET=pods.log),
        *_collection("events", GET=events.collection),
        _route("/api/v1/namespaces/{namespace}/events/{name}", GET=events.get),
    ]
    for verb, handler in (("exec", streams.exec), ("attach", streams.attach)):
        path = f"/api/v1/namespaces/{{namespace}}/pods/{{name}}/{verb}"
        routes += [WebSocketRoute(path, handler), _route(path, GET=_upgrade_required, POST=_upgrade_required)]
    for kind, resource, cache in (
        ("ConfigMap", "configmaps", state.config_maps),
        ("Secret", "secrets", state.secrets),
    ):
        objects = ObjectHandlers(state, kind, resource, cache)
        routes += _collection(resource, GET=objects.collection, POST=objects.create)
        one = f"/api/v1/namespaces/{{namespace}}/{resource}/{{name}}"
        routes.append(_route(one, GET=objects.get, PUT=objects.replace, DELETE=objects.delete))
    routes += [_route(path, GET=handler) for path, handler in discovery.ROUTES.items()]
    routes += [_route(path, GET=handler) for path, handler in node.routes().items()]
    return Starlette(routes=routes, exception_handlers={404: _no_such_path, 405: _no_such_method})


def _collection(resource: str, **handlers: Handler) -> list[Route]:
    """A resource's two collections: in one namespace, and, to read only, in all of them."""
    everywhere = {method: handler for method, handler in handlers.items() if method != "POST"}
    return [
        _route(f"/api/v1/{resource}", **everywhere),
        _route(f"/api/v1/namespaces/{{namespace}}/{resource}", **handlers),
    ]


def _route(path: str, **handlers: Handler) -> Route:
    """One path; methods that it has no handler for are refused with a Status."""

    async def dispatch(request: Request) -> Response:
        handler = handlers.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise method_not_allowed()
        return await handler(request)

    return Route(path, handled(dispatch), methods=_ALL)


async def _upgrade_required(request: Request) -> Response:
    raise bad_request("you must specify a protocol: upgrade to a WebSocket with v5.channel.k8s.io or v4.channel.k8s.io")


async def _no_such_path(request: Request, error: Exception) -> Response:
    return answer_error(ApiError(404, "NotFound", "the server could not find the requested resource"))


async def _no_such_method(request: Request, error: Exception) -> Response:
    return answer_error(method_not_allowed())
