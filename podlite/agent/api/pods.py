"""/api/v1/…/pods: create, get, list, watch, delete, and the log of a container."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from starlette.responses import Response

from podlite.agent.api.decode import is_dry_run, read_delete_options, read_object
from podlite.agent.api.errors import already_exists, bad_request, conflict, forbidden, internal
from podlite.agent.api.http import StreamedLines, answer, answer_list, flag, number, read_body
from podlite.agent.api.listing import list_or_watch, matcher
from podlite.agent.api.representation import representation
from podlite.agent.sources.static_pods import is_static
from podlite.api.admission import admit
from podlite.kubelet.gotime import NANOSECONDS, rfc3339
from podlite.kubelet.instance_end import bare_id
from podlite.kubelet.kubelet import PodExists, PodNotFound
from podlite.kubelet.log_source import find_status, log_source
from podlite.kubelet.log_watch import DirectoryWatcher
from podlite.kubelet.read_logs import LogEnd, LogOptions, read_logs
from podlite.kubelet.types import KubeletConfig, KubeletError
from podlite.runtime.names import new_uid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from podlite.agent.api.state import ApiState
    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStatus

RESOURCE = "pods"


class PodHandlers:
    """The handlers; each answers one kind of request, or raises ApiError."""

    def __init__(self, state: ApiState) -> None:
        self._state = state

    async def collection(self, request: Request) -> Response:
        return await list_or_watch(request, RESOURCE, "Pod", self._state.pods)

    async def get(self, request: Request) -> Response:
        return answer(representation(request, "Pod").one(self._pod(request)))

    def _pod(self, request: Request) -> Pod:
        return self._state.find_pod(request.path_params["namespace"], request.path_params["name"])

    async def create(self, request: Request) -> Response:
        """Answers when the pod is written down and begun, not when it runs."""
        node, controller = self._state.node, self._state.controller
        if node is None or controller is None:
            raise internal("no agent runs here, so no pod can be created")
        pod, warnings = read_object(request, await read_body(request), "Pod")
        admit(pod, uid=new_uid(), now=rfc3339(node.kubelet.clock.now_ns()))
        pod.spec.node_name = pod.spec.node_name or node.kubelet.config.node_name
        name = pod.metadata.name
        if is_static(pod):
            raise forbidden(RESOURCE, name, "the annotation kubernetes.io/config.source is the agent's own")
        if any((each.metadata.namespace, each.metadata.name) == (pod.metadata.namespace, name) for each in self._own()):
            raise already_exists(RESOURCE, name)
        if not is_dry_run(request):
            try:
                await controller.create(pod)
                pod = self._state.refresh(pod.metadata.uid)
            except PodExists:
                raise already_exists(RESOURCE, name) from None
            except PodNotFound:
                pass  # it was deleted already
        response = answer(pod, 201)
        for each in warnings:
            response.headers.append("Warning", f'299 - "{_quoted(each)}"')
        return response

    def _own(self) -> list[Pod]:
        return [each for each in self._state.pods if self._state.is_own(each.metadata.uid)]

    async def delete(self, request: Request) -> Response:
        """Answers with the pod as it is when its end has been asked for."""
        pod = self._pod(request)
        options = read_delete_options(request, await read_body(request))
        uid, name = pod.metadata.uid, pod.metadata.name
        wanted = options.preconditions.get("uid", uid)
        if wanted != uid:
            raise conflict(
                RESOURCE, name, f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
            )
        if "All" in options.dry_run:
            return answer(pod)
        return answer(await self._delete(pod, options.grace_period_seconds))

    async def delete_all(self, request: Request) -> Response:
        """DELETE of a collection: everything that the selectors match."""
        options = read_delete_options(request, await read_body(request))
        matches = matcher(request, RESOURCE)
        gone = [each for each in self._state.pods if matches(each) and not is_static(each)]
        if "All" not in options.dry_run:
            gone = [await self._delete(each, options.grace_period_seconds) for each in gone]
        return answer_list("PodList", gone, self._state.pods.version)

    async def _delete(self, pod: Pod, grace: int | None) -> Pod:
        uid = pod.metadata.uid
        if not self._state.is_own(uid):
            written = self._state.foreign.get(uid)
            if written is not None:
                from podlite.agent.foreign_pods import ask_to_delete

                await to_thread.run_sync(ask_to_delete, written, -1 if grace is None else grace)
            return pod
        if is_static(pod):
            where = pod.metadata.annotations.get("kubernetes.io/config.source", "")
            raise forbidden(RESOURCE, pod.metadata.name, f"it is a static pod (source: {where}): remove its manifest")
        assert self._state.controller is not None
        try:
            await self._state.controller.delete(uid, grace)
            return self._state.refresh(uid)
        except PodNotFound:
            return pod  # it is gone this moment

    # --- logs -------------------------------------------------------------------------------

    async def log(self, request: Request) -> Response:
        """GET …/log, with the parameters of v1.PodLogOptions."""
        pod = self._pod(request)
        container = request.query_params.get("container", "") or _only_container(pod)
        options = _log_options(request)
        previous = flag(request, "previous")
        try:
            source = log_source(pod, self._config(pod), container, previous=previous)
        except KubeletError as error:
            raise bad_request(str(error)) from None
        lines = self._read(pod, container, source.path, source.container_id, options, running=source.running)
        return StreamedLines(lines, "text/plain")

    def _config(self, pod: Pod) -> KubeletConfig:
        written = self._state.foreign.get(pod.metadata.uid)
        if written is None and self._state.node is not None:
            return self._state.node.kubelet.config
        return KubeletConfig(log_dir=written.holder.log_dir) if written is not None else KubeletConfig()

    async def _read(
        self, pod: Pod, container: str, path: str, container_id: str, options: LogOptions, *, running: bool
    ) -> AsyncIterator[bytes]:
        end = LogEnd()
        async with anyio.create_task_group() as tasks:
            watcher = DirectoryWatcher(tasks)
            if running and options.follow:
                tasks.start_soon(self._wait_for_end, pod.metadata.uid, container, container_id, end)
            else:
                end.set()
            try:
                async with aclosing(read_logs(path, options, watcher, end)) as outputs:
                    async for output in outputs:
                        yield output.data
            except FileNotFoundError:
                pass  # it never had output, or is gone
            finally:
                watcher.close()
                tasks.cancel_scope.cancel()

    async def _wait_for_end(self, uid: str, container: str, container_id: str, end: LogEnd) -> None:
        """Until this instance of the container runs no more, by the pod's status."""
        await self._state.until(uid, lambda pod: not _runs(find_status(pod, container), container_id))
        end.set()


def _runs(status: ContainerStatus | None, container_id: str) -> bool:
    if status is None or status.state.running is None:
        return False
    return bare_id(status.container_id) == container_id


def _only_container(pod: Pod) -> str:
    """A pod with one container needs no name. Raises ApiError."""
    names = [each.name for each in pod.spec.containers]
    inits = [each.name for each in pod.spec.init_containers]
    if len(names) == 1 and not inits:
        return names[0]
    more = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
    raise bad_request(
        f"a container name must be specified for pod {pod.metadata.name}, choose one of: [{' '.join(names)}]{more}"
    )


def _log_options(request: Request) -> LogOptions:
    since_ns = None
    seconds = number(request, "sinceSeconds")
    since_time = request.query_params.get("sinceTime", "")
    if seconds is not None and since_time:
        raise bad_request("at most one of `sinceTime` or `sinceSeconds` may be specified")
    if seconds is not None:
        since_ns = time.time_ns() - seconds * NANOSECONDS
    elif since_time:
        from podlite.kubelet.log_lines import time_ns

        try:
            since_ns = time_ns(since_time.encode())
        except (ValueError, IndexError):
            raise bad_request(f"sinceTime: {since_time!r} is not a time in RFC 3339") from None
    stream = request.query_params.get("stream", "All")
    if stream not in ("All", "Stdout", "Stderr"):
        raise bad_request(f"stream: {stream!r} is not one of All, Stdout, Stderr")
    tail_lines = number(request, "tailLines")
    if tail_lines is not None and stream != "All":
        raise bad_request("`tailLines` and specific `stream` are mutually exclusive for now")
    return LogOptions(
        follow=flag(request, "follow"),
        timestamps=flag(request, "timestamps"),
        tail_lines=tail_lines,
        limit_bytes=number(request, "limitBytes"),
        since_ns=since_ns,
        stream=stream,
    )


def _quoted(text: str) -> str:
    """For a Warning header: one line of printable ASCII, as RFC 7234 wants it."""
    plain = text.encode("ascii", "replace").decode().replace("\\", "\\\\").replace('"', '\\"')
    return " ".join(plain.split())
