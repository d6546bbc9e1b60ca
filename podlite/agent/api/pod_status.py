"""PATCH /api/v1/…/pods/{name}/status: the conditions of readiness gates, which controllers of a cluster set.

Only the kubelet knows the rest of a pod's status, and only conditions that are not its own may be set.
Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-readiness-gate; validatePodConditions in
pkg/apis/core/validation/validation.go and how conditions are merged (patchMergeKey=type), Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from podlite.agent.api.decode import is_dry_run
from podlite.agent.api.errors import ApiError, bad_request, forbidden, internal, invalid
from podlite.agent.api.http import answer, read_body
from podlite.api.decode import from_builtins
from podlite.api.problems import FORBIDDEN, INVALID, NOT_SUPPORTED, REQUIRED, Problem
from podlite.api.status import PodCondition
from podlite.api.validation import names
from podlite.kubelet import conditions
from podlite.kubelet.kubelet import PodNotFound

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from podlite.agent.api.state import ApiState

STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
_STATUSES = ("True", "False", "Unknown")
# What kubectl may send along with the part that is changed.
_IDENTITY = frozenset(("apiVersion", "kind", "metadata"))


class PodStatusHandlers:
    """The handler; it answers with the pod, or raises ApiError."""

    def __init__(self, state: ApiState) -> None:
        self._state = state

    async def patch(self, request: Request) -> Response:
        """Answers when the conditions are set; whether the pod is Ready for that follows at once."""
        pod = self._state.find_pod(request.path_params["namespace"], request.path_params["name"])
        uid, name = pod.metadata.uid, pod.metadata.name
        if not self._state.is_own(uid) or self._state.node is None:
            raise forbidden("pods", name, "it is not the agent's: a foreground podlite runs it")
        media = request.headers.get("Content-Type", "").partition(";")[0].strip()
        if media != STRATEGIC_MERGE_PATCH:
            message = (
                f"the body of the request was in an unknown format - accepted media types: {STRATEGIC_MERGE_PATCH}"
            )
            raise ApiError(415, "UnsupportedMediaType", message)
        found = read_conditions(await read_body(request))
        problems = condition_problems(found)
        if problems:
            raise invalid("Pod", name, problems)
        if is_dry_run(request):
            return answer(pod)
        try:
            for each in found:
                self._state.node.kubelet.set_pod_condition(uid, each)
            return answer(self._state.refresh(uid))
        except PodNotFound:
            raise internal(f'the pod "{name}" is gone') from None


def read_conditions(body: bytes) -> list[PodCondition]:
    """The conditions that a patch sets. Raises ApiError for a patch of anything else. Pure."""
    try:
        patch = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise bad_request(f"the body of the request cannot be read: {error}") from None
    status = patch.get("status") if isinstance(patch, dict) else None
    given = status.get("conditions") if isinstance(status, dict) else None
    others = patch.keys() - _IDENTITY - {"status"} if isinstance(patch, dict) else ()
    if not isinstance(given, list) or len(status or ()) != 1 or others:
        raise bad_request("only status.conditions of a pod can be patched: the rest of its status is the kubelet's")
    try:
        return [from_builtins(each, PodCondition) for each in given]
    except ValueError as error:
        raise bad_request(f"the conditions cannot be read: {error}") from None


def condition_problems(found: list[PodCondition]) -> list[Problem]:
    """What is wrong with conditions that somebody else than the kubelet sets. Pure."""
    problems: list[Problem] = []
    for index, each in enumerate(found):
        path = f"status.conditions[{index}]"
        if not each.type:
            problems.append(Problem(f"{path}.type", "Required value", REQUIRED))
        elif each.type in conditions.OWNED:
            message = f"Forbidden: the condition {each.type} is the kubelet's own"
            problems.append(Problem(f"{path}.type", message, FORBIDDEN))
        else:
            wrong = names.qualified_name(each.type)
            problems += [Problem(f"{path}.type", f'Invalid value: "{each.type}": {why}', INVALID) for why in wrong]
        if each.status not in _STATUSES:
            supported = ", ".join(f'"{status}"' for status in _STATUSES)
            message = f'Unsupported value: "{each.status}": supported values: {supported}'
            problems.append(Problem(f"{path}.status", message, NOT_SUPPORTED))
    return problems
