"""What a kubelet answers beside the API: health, metrics, resource usage, its pods.

Source: pkg/kubelet/server/server.go and k8s.io/kubelet/pkg/apis/stats/v1alpha1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response

from podlite.agent.api.errors import internal
from podlite.agent.api.http import Handler, answer, answer_list

if TYPE_CHECKING:
    from starlette.requests import Request

    from podlite.agent.api.metrics import Metrics
    from podlite.agent.api.state import ApiState


class NodeHandlers:
    """The handlers of a kubelet's own paths."""

    def __init__(self, state: ApiState, metrics: Metrics | None) -> None:
        self._state = state
        self._metrics = metrics

    def routes(self) -> dict[str, Handler]:
        """Path → handler."""
        health = dict.fromkeys(("/healthz", "/livez", "/readyz"), self._health)
        return {**health, "/metrics": self._prometheus, "/stats/summary": self._summary, "/pods": self._pods}

    async def _health(self, request: Request) -> Response:
        """That it is answered says that the event loop goes round; the runtime's own state is looked at besides."""
        node = self._state.node
        if node is not None and node.remark():
            return PlainTextResponse(f"ok\n[{node.remark()}]\n")
        return PlainTextResponse("ok")

    async def _prometheus(self, request: Request) -> Response:
        if self._metrics is None:
            raise internal("no agent runs here, so there are no metrics")
        text, media_type = self._metrics.render()
        return Response(text, media_type=media_type)

    async def _summary(self, request: Request) -> Response:
        node = self._state.node
        if node is None:
            raise internal("no agent runs here, so there are no statistics")
        from podlite.agent.api.summary import summary

        return answer(await summary(node))

    async def _pods(self, request: Request) -> Response:
        """The pods of this agent only, as a kubelet answers."""
        own = [each for each in self._state.pods if self._state.is_own(each.metadata.uid)]
        return answer_list("PodList", own, self._state.pods.version)
