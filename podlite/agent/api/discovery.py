"""What an API server says of itself: versions, groups, resources. Enough for clients that look before they ask.

Source: k8s.io/apimachinery/pkg/apis/meta/v1/types.go (APIVersions, APIResourceList) and version/types.go, 1.36.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from podlite.agent.api.http import answer
from podlite.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

# The API that the objects are of.
MAJOR, MINOR = "1", "36"
# As Go calls them.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _resource(name: str, kind: str, verbs: str, *short: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "singularName": "" if "/" in name else kind.lower(),
        "namespaced": True,
        "kind": kind,
        "verbs": verbs.split(),
    }
    if short:
        found["shortNames"] = list(short)
    return found


_RESOURCES = [
    _resource("configmaps", "ConfigMap", "create delete get list update watch", "cm"),
    _resource("events", "Event", "get list watch", "ev"),
    _resource("pods", "Pod", "create delete deletecollection get list watch", "po"),
    _resource("pods/attach", "PodAttachOptions", "create get"),
    _resource("pods/exec", "PodExecOptions", "create get"),
    _resource("pods/log", "Pod", "get"),
    _resource("pods/status", "Pod", "get patch"),
    _resource("secrets", "Secret", "create delete get list update watch"),
]


async def _versions(request: Request) -> Response:
    return answer({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})


async def _groups(request: Request) -> Response:
    return answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})


async def _resources(request: Request) -> Response:
    return answer({"kind": "APIResourceList", "groupVersion": "v1", "resources": _RESOURCES})


async def _version(request: Request) -> Response:
    return answer(
        {
            "major": MAJOR,
            "minor": MINOR,
            "gitVersion": f"v{MAJOR}.{MINOR}.0+podlite-{__version__}",
            "platform": f"linux/{_ARCHITECTURES.get(os.uname().machine, os.uname().machine)}",
        }
    )


ROUTES = {"/api": _versions, "/apis": _groups, "/api/v1": _resources, "/version": _version}
