"""Requests that nobody meant: every answer is one of the API's, and the server goes on.

The application is the agent's, on a kubelet whose runtime is in memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podlite.agent.api.app import make_app
from podlite.agent.api.state import ApiState
from podlite.agent.controller import PodController
from podlite.agent.durable import DurableStore
from podlite.agent.node import Node
from tests.support.agents import manifest
from tests.support.clock import settle
from tests.support.kubelet import a_bench

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.one_of(st.sampled_from(["web", "Web", "", ".", "..", "a/b", "%2e%2e", "x" * 300]), st.text(max_size=12))
NAMESPACES = st.one_of(st.just("default"), st.just("default"), NAMES)
PATHS = st.one_of(
    st.builds(lambda ns, name, tail: f"/api/v1/namespaces/{ns}/pods/{name}{tail}", NAMESPACES, NAMES,
              st.sampled_from(["", "/log", "/exec", "/attach", "/status", "/nothing"])),
    st.builds(lambda ns, kind: f"/api/v1/namespaces/{ns}/{kind}", NAMESPACES,
              st.sampled_from(["pods", "configmaps", "secrets", "events", "nodes"])),
    st.sampled_from(["/", "/api", "/api/v1", "/healthz", "/pods", "/version", "/api/v1/pods"]),
)  # fmt: skip
PARAMETERS = (
    *(
        "labelSelector",
        "fieldSelector",
        "resourceVersion",
        "timeoutSeconds",
        "gracePeriodSeconds",
        "dryRun",
        "container",
    ),
    *("follow", "tailLines", "sinceSeconds", "sinceTime", "limitBytes", "previous", "timestamps", "stream", "limit"),
    *("fieldValidation", "continue", "command", "includeObject"),
)
QUERIES = st.dictionaries(
    st.sampled_from(PARAMETERS),
    st.one_of(st.sampled_from(["true", "0", "-1", "9" * 40, "All", "Stdout", "a=b", "nonsense"]), st.text(max_size=15)),
    max_size=4,
)


@st.composite
def bodies(draw: Any) -> bytes:
    """Nothing, nonsense, any JSON, or a pod of which one field is any JSON."""
    kind = draw(st.sampled_from(["none", "bytes", "json", "pod", "container"]))
    if kind == "none":
        return b""
    if kind == "bytes":
        return draw(st.binary(max_size=300))  # type: ignore[no-any-return]
    if kind == "json":
        return json.dumps(draw(JSON_VALUES)).encode()
    pod = manifest("web")
    target = pod["spec"] if kind == "pod" else pod["spec"]["containers"][0]
    fields = [
        "volumes",
        "restartPolicy",
        "initContainers",
        "hostNetwork",
        "tolerations",
        "securityContext",
        "dnsConfig",
    ]
    if kind == "container":
        fields = ["env", "ports", "command", "resources", "livenessProbe", "volumeMounts", "lifecycle", "image", "name"]
    target[draw(st.sampled_from(fields))] = draw(JSON_VALUES)
    return json.dumps(pod).encode()


ACCEPTS = st.one_of(
    st.just("*/*"),
    st.builds(
        lambda form, version, quality: f"application/json;as={form};v={version};g=meta.k8s.io;q={quality}",
        st.sampled_from(["Table", "PartialObjectMetadata", "PartialObjectMetadataList", "Chart"]),
        st.sampled_from(["v1", "v1beta1", "v2"]),
        st.sampled_from(["1", "0.5", "0", "x"]),
    ),
    st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), max_size=20),
)
METHODS = st.sampled_from(["GET", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"])
REQUESTS = st.lists(st.tuples(METHODS, PATHS, QUERIES, ACCEPTS, bodies()), max_size=6)


Request = tuple[str, str, dict[str, str], str, bytes]


async def ask(directory: Path, requests: list[Request]) -> None:
    async with a_bench(directory) as bench:
        options: Any = SimpleNamespace(layout=SimpleNamespace(pods_dir=f"{directory}/run/pods"))
        node = Node(options, bench.runtime, bench.kubelet)
        controller = PodController(node, DurableStore(str(directory / "state")))
        state = ApiState(f"{directory}/run/pods", node, controller)
        transport = httpx.ASGITransport(app=make_app(state))
        async with (
            anyio.create_task_group() as tasks,
            httpx.AsyncClient(transport=transport, base_url="http://podlite") as client,
        ):
            await tasks.start(state.follow)
            for method, path, query, accept, body in requests:
                try:
                    url = httpx.URL("http://podlite" + path, params=query)
                except (httpx.InvalidURL, UnicodeEncodeError):
                    continue
                with anyio.fail_after(60):
                    response = await client.request(method, url, content=body, headers={"Accept": accept})
                check(response)
                await settle()
            assert (await client.get("/healthz")).status_code == 200
            tasks.cancel_scope.cancel()


def check(response: httpx.Response) -> None:
    """An answer of the API's: what was asked for, or a Status with its code and a reason; never our mistake."""
    assert response.status_code < 500, response.text
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    status = response.json()
    assert status["kind"] == "Status", status
    assert (status["status"], status["code"]) == ("Failure", response.status_code)
    assert status["reason"]
    assert status["message"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(REQUESTS)
def test_any_requests(tmp_path_factory: pytest.TempPathFactory, requests: list[Request]) -> None:
    anyio.run(ask, tmp_path_factory.mktemp("api"), requests)
