"""The agent's API, by the rules of an API server (the Kubernetes documentation, "API concepts") and of a kubelet's."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import threading
from typing import Any

import httpx
import pytest

from podlite.agent.client import AnswerError, Client, pods_path
from tests.support.agents import Machine, container_status, manifest, until
from tests.support.websockets import V4, V5, Channels, Refused

pytestmark = [pytest.mark.root]

PODS = pods_path("default")


@pytest.fixture
def api(machine: Machine) -> Client:
    machine.start()
    return machine.client


def refused(client: Client, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, str, str]:
    """(code, reason, message) of an error."""
    with pytest.raises(AnswerError) as caught:
        client.request(method, path, body, **query)
    return caught.value.code, caught.value.reason, caught.value.message


def test_the_socket_is_its_owners(machine: Machine, api: Client) -> None:
    assert stat.S_IMODE(os.stat(machine.socket).st_mode) == 0o600


def test_a_pods_life(machine: Machine, api: Client) -> None:
    created = api.request("POST", PODS, manifest("web", labels={"app": "web"}))
    assert (created["kind"], created["metadata"]["name"]) == ("Pod", "web")
    assert created["metadata"]["uid"]
    assert created["spec"]["restartPolicy"] == "Always"  # defaulted
    assert created["spec"]["nodeName"] == machine.node
    pod = machine.running("web")
    assert int(pod["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])
    assert [each["metadata"]["name"] for each in api.request("GET", PODS, labelSelector="app=web")["items"]] == ["web"]
    assert api.request("GET", PODS, labelSelector="app!=web")["items"] == []
    assert api.request("GET", pods_path("other"))["items"] == []
    assert len(api.request("GET", pods_path(""), fieldSelector="status.phase=Running")["items"]) == 1
    deleted = api.request("DELETE", f"{PODS}/web", {"gracePeriodSeconds": 1})
    assert deleted["metadata"]["deletionGracePeriodSeconds"] == 1
    assert deleted["metadata"]["deletionTimestamp"]
    machine.gone("web")


def test_errors_are_statuses(api: Client) -> None:
    assert refused(api, "GET", f"{PODS}/web") == (404, "NotFound", 'pods "web" not found')
    assert refused(api, "DELETE", f"{PODS}/web")[:2] == (404, "NotFound")
    assert refused(api, "GET", "/api/v1/nodes/x")[:2] == (404, "NotFound")
    assert refused(api, "PATCH", f"{PODS}/web", {})[:2] == (405, "MethodNotAllowed")
    assert refused(api, "POST", PODS, b"{")[:2] == (400, "BadRequest")
    assert refused(api, "POST", PODS, {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "x"}})[0] == 400
    assert refused(api, "POST", PODS, manifest("x") | {"metadata": {"name": "x", "namespace": "other"}})[0] == 400
    code, reason, message = refused(api, "POST", PODS, manifest("Web"))
    assert (code, reason) == (422, "Invalid")
    assert message.startswith('Pod "Web" is invalid: metadata.name: ')
    assert refused(api, "POST", PODS, b" " * (3 << 20) + b"x")[:2] == (413, "RequestEntityTooLarge")
    assert refused(api, "GET", PODS, labelSelector="a=b=c")[:2] == (400, "BadRequest")
    assert refused(api, "GET", PODS, watch="true", resourceVersion="1")[:2] == (410, "Expired")
    assert api.request("GET", PODS)["items"] == []


def test_a_readiness_gate_is_met_by_a_patch(machine: Machine, api: Client) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-readiness-gate: by PATCH of the status."""
    gated = manifest("web")
    gated["spec"]["readinessGates"] = [{"conditionType": "example.com/up"}]
    api.request("POST", PODS, gated)
    pod = machine.running("web")

    def condition(type: str) -> dict[str, Any]:
        found = api.request("GET", f"{PODS}/web")["status"]["conditions"]
        return next((each for each in found if each["type"] == type), {})

    assert condition("ContainersReady")["status"] == "True"
    assert (condition("Ready")["status"], condition("Ready")["reason"]) == ("False", "ReadinessGatesNotReady")
    path, media = f"{PODS}/web/status", "application/strategic-merge-patch+json"
    for status in ("True", "False"):
        patch = {"status": {"conditions": [{"type": "example.com/up", "status": status, "reason": "Asked"}]}}
        patched = api.request("PATCH", path, patch, content_type=media)
        [found] = [each for each in patched["status"]["conditions"] if each["type"] == "example.com/up"]
        assert (found["status"], found["reason"]) == (status, "Asked")
        assert found["lastTransitionTime"]
        until(lambda status=status: condition("Ready")["status"] == status)  # type: ignore[misc]
    assert condition("ContainersReady")["status"] == "True"
    assert pod["metadata"]["uid"] == api.request("GET", f"{PODS}/web")["metadata"]["uid"]

    def wrong(patch: Any, content_type: str = media) -> tuple[int, str]:
        with pytest.raises(AnswerError) as caught:
            api.request("PATCH", path, patch, content_type=content_type)
        return caught.value.code, caught.value.message

    assert wrong({"status": {"conditions": []}}, "application/json-patch+json")[0] == 415
    assert wrong({"status": {"phase": "Failed"}})[0] == 400
    assert wrong({"spec": {}, "status": {"conditions": []}})[0] == 400
    assert wrong(b"{")[0] == 400
    code, message = wrong({"status": {"conditions": [{"type": "Ready", "status": "Maybe"}, {"type": "a b"}]}})
    assert code == 422
    assert "status.conditions[0].type: Forbidden: the condition Ready is the kubelet's own" in message
    assert "status.conditions[0].status: Unsupported value" in message
    assert "status.conditions[1].type: Invalid value" in message


def test_a_name_is_taken_once(machine: Machine, api: Client) -> None:
    machine.create("web")
    assert refused(api, "POST", PODS, manifest("web")) == (409, "AlreadyExists", 'pods "web" already exists')
    uid = machine.pod("web")["metadata"]["uid"]  # type: ignore[index]
    assert refused(api, "DELETE", f"{PODS}/web", {"preconditions": {"uid": "other"}})[:2] == (409, "Conflict")
    machine.running("web")
    assert api.request("DELETE", f"{PODS}/web", {"preconditions": {"uid": uid}})["metadata"]["uid"] == uid


def test_a_dry_run_does_nothing(api: Client) -> None:
    assert api.request("POST", PODS, manifest("web"), dryRun="All")["metadata"]["name"] == "web"
    assert api.request("GET", PODS)["items"] == []


def test_generated_names_and_yaml(machine: Machine, api: Client) -> None:
    text = json.dumps(manifest("x") | {"metadata": {"generateName": "web-"}})
    created = api.request("POST", PODS, text.encode(), content_type="application/yaml")
    assert created["metadata"]["name"].startswith("web-")
    machine.running(created["metadata"]["name"])


def test_a_watch_tells_a_pods_whole_life(machine: Machine, api: Client) -> None:
    version = api.request("GET", PODS)["metadata"]["resourceVersion"]
    seen: list[tuple[str, str]] = []

    def watch() -> None:
        with Client(machine.socket) as client:
            for event in client.watch(PODS, resourceVersion=version, labelSelector="app=web"):
                seen.append((event["type"], event["object"]["status"].get("phase", "")))
                if event["type"] == "DELETED":
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    machine.create("other")
    machine.create("web", labels={"app": "web"})
    machine.running("web")
    machine.delete("web")
    watcher.join(30)
    assert not watcher.is_alive()
    types = [type for type, _ in seen]
    assert types == ["ADDED", *["MODIFIED"] * (len(types) - 2), "DELETED"]
    assert ("MODIFIED", "Running") in seen


def test_a_watch_ends_in_time_and_with_the_agent(machine: Machine, api: Client) -> None:
    machine.create("web")
    machine.running("web")
    events = list(api.watch(PODS, resourceVersion="0", timeoutSeconds=1))
    assert events[0]["type"] == "ADDED"
    endless = api.watch(PODS, resourceVersion="0")
    assert next(endless)["type"] == "ADDED"
    assert machine.stop() == 0
    list(endless)


def test_logs(machine: Machine, api: Client) -> None:
    name = machine.create("web", script="for i in 1 2 3; do echo $i; done; sleep 0.1; echo oops >&2; exec sleep 1000")[
        "metadata"
    ]["name"]
    machine.running(name)
    path = f"{PODS}/{name}/log"
    until(lambda: "oops" in api.request("GET", path))
    assert sorted(api.request("GET", path).split()) == ["1", "2", "3", "oops"]
    assert api.request("GET", path, stream="Stderr") == "oops\n"
    assert api.request("GET", path, tailLines=1, timestamps="true").endswith("Z oops\n")
    assert refused(api, "GET", path, tailLines=1, stream="Stdout")[0] == 400
    assert len(api.request("GET", path, limitBytes=3)) == 3
    assert refused(api, "GET", path, container="nothing")[:2] == (400, "BadRequest")
    assert refused(api, "GET", path, previous="true")[0] == 400
    lines = api.lines(path, follow="true", stream="Stdout")
    assert [next(lines) for _ in range(3)] == [b"1\n", b"2\n", b"3\n"]
    machine.delete(name)
    assert list(lines) == []


def test_a_pod_with_several_containers_needs_a_name_for_its_log(machine: Machine, api: Client) -> None:
    spec = manifest("web")
    spec["spec"]["containers"].append({**spec["spec"]["containers"][0], "name": "other"})
    api.request("POST", PODS, spec)
    machine.running("web")
    message = refused(api, "GET", f"{PODS}/web/log")[2]
    assert message == "a container name must be specified for pod web, choose one of: [main other]"


@pytest.mark.parametrize("protocol", [V5, V4])
def test_exec(machine: Machine, api: Client, protocol: str) -> None:
    machine.running(machine.create("web")["metadata"]["name"])
    path = f"{PODS}/web/exec"
    script = "echo out; echo err >&2; exit 3"
    with Channels(machine.socket, path, protocols=(protocol,), command=["/bin/sh", "-c", script]) as channels:
        status = channels.read_all()
        assert channels.protocol == protocol
        assert channels.output == {1: b"out\n", 2: b"err\n"}
    assert status is not None
    assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    with Channels(machine.socket, path, command=["/bin/cat"], stdin="true") as channels:
        channels.send(0, b"hello\n")
        channels.read_until(b"hello\n")
        channels.send(255, b"\0")  # v5: the end of the input
        assert channels.read_all() == {"metadata": {}, "status": "Success"}
    tty = {"command": ["/bin/sh", "-c", "read line; stty size"], "stdin": "true", "tty": "true"}
    with Channels(machine.socket, path, **tty) as channels:
        channels.send(4, b'{"Width": 91, "Height": 31}')
        channels.send(0, b"\n")
        channels.read_all()
        assert b"31 91" in channels.output[1]


def test_what_cannot_be_executed(machine: Machine, api: Client) -> None:
    machine.running(machine.create("web")["metadata"]["name"])
    path = f"{PODS}/web/exec"
    for query, code in (
        ({}, 400),
        ({"command": "true", "container": "nothing"}, 400),
        ({"command": "true", "protocols": ("v9.channel.k8s.io",)}, 400),
    ):
        with pytest.raises(Refused) as caught:
            Channels(machine.socket, path, **query)  # type: ignore[arg-type]
        assert caught.value.code == code
    with pytest.raises(Refused) as caught:
        Channels(machine.socket, f"{PODS}/nothing/exec", command="true")
    assert caught.value.code == 404
    assert refused(api, "GET", path)[:2] == (400, "BadRequest")
    with Channels(machine.socket, path, command="/no/such/file") as channels:
        status = channels.read_all()
    assert status is not None
    assert status["status"] == "Failure"


def test_an_exec_ends_with_its_client(machine: Machine, api: Client) -> None:
    machine.running(machine.create("web")["metadata"]["name"])
    with Channels(
        machine.socket, f"{PODS}/web/exec", command=["/bin/sh", "-c", "echo $$; exec sleep 1234"]
    ) as channels:
        channels.read_until(b"\n")
    look = ["/bin/sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '"]

    def is_gone() -> bool:
        with Channels(machine.socket, f"{PODS}/web/exec", command=look) as channels:
            channels.read_all()
            return b"sleep 1234" not in channels.output[1]

    until(is_gone)


def test_attach(machine: Machine, api: Client) -> None:
    container = {"stdin": True}
    machine.running(
        machine.create("web", script="while read line; do echo got $line; done", container=container)["metadata"][
            "name"
        ]
    )
    with Channels(machine.socket, f"{PODS}/web/attach", stdin="true", container="main") as channels:
        channels.send(0, b"one\n")
        channels.read_until(b"got one\n")
    assert container_status(machine.pod("web") or {})["restartCount"] == 0


def test_config_maps_and_secrets(machine: Machine, api: Client) -> None:
    maps, secrets = "/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/secrets"
    value = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "settings"}, "data": {"colour": "red"}}
    created = api.request("POST", maps, value)
    assert created["metadata"]["uid"]
    assert refused(api, "POST", maps, value)[:2] == (409, "AlreadyExists")
    secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "key"}, "stringData": {"token": "abc"}}
    assert api.request("POST", secrets, secret)["data"] == {"token": "YWJj"}
    env = [
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}},
    ]
    machine.create("web", script="echo $COLOUR $TOKEN; exec sleep 1000", container={"env": env})
    machine.running("web")
    until(lambda: api.request("GET", f"{PODS}/web/log") == "red abc\n")
    changed = api.request("PUT", f"{maps}/settings", {**value, "data": {"colour": "blue"}})
    assert changed["metadata"]["uid"] == created["metadata"]["uid"]
    stale = {**value, "metadata": {"name": "settings", "resourceVersion": created["metadata"]["resourceVersion"]}}
    assert refused(api, "PUT", f"{maps}/settings", stale)[:2] == (409, "Conflict")
    # They outlive the agent.
    machine.kill()
    machine.start()
    assert api.request("GET", f"{maps}/settings")["data"] == {"colour": "blue"}
    assert api.request("DELETE", f"{maps}/settings")["status"] == "Success"
    assert refused(api, "GET", f"{maps}/settings")[:2] == (404, "NotFound")
    api.request("DELETE", f"{secrets}/key")


def test_events(machine: Machine, api: Client) -> None:
    machine.running(machine.create("web")["metadata"]["name"])
    events = "/api/v1/namespaces/default/events"
    found = api.request("GET", events, fieldSelector="involvedObject.name=web,reason=Started")["items"]
    assert [each["message"] for each in found] == ["Container started"]
    assert api.request("GET", f"{events}/{found[0]['metadata']['name']}") == found[0]
    assert api.request("GET", events, fieldSelector="involvedObject.name=other")["items"] == []


def test_what_a_kubelet_answers(machine: Machine, api: Client) -> None:
    machine.running(machine.create("web")["metadata"]["name"])
    assert api.request("GET", "/healthz") == "ok"
    text = api.request("GET", "/metrics")
    for line in (
        "kubelet_running_pods 1.0",
        'kubelet_running_containers{container_state="running"} 1.0',
        f'kubelet_node_name{{node="{machine.node}"}} 1.0',
        'kubelet_runtime_operations_total{operation_type="run_podsandbox"} 1.0',
        'kubelet_runtime_operations_duration_seconds_count{operation_type="start_container"} 1.0',
    ):
        assert line in text.splitlines(), line
    [pod] = api.request("GET", "/stats/summary")["pods"]
    assert pod["podRef"]["name"] == "web"
    assert [each["name"] for each in pod["containers"]] == ["main"]
    assert [each["metadata"]["name"] for each in api.request("GET", "/pods")["items"]] == ["web"]
    assert api.request("GET", "/api")["versions"] == ["v1"]
    resources = {each["name"] for each in api.request("GET", "/api/v1")["resources"]}
    assert {"pods", "pods/log", "pods/exec", "pods/attach", "events", "configmaps", "secrets"} <= resources


def test_static_pods_are_their_manifests(machine: Machine, api: Client) -> None:
    name = machine.drop("web")
    machine.running(name)
    code, reason, message = refused(api, "DELETE", f"{PODS}/{name}")
    assert (code, reason) == (403, "Forbidden")
    assert "remove its manifest" in message
    assert refused(
        api,
        "POST",
        PODS,
        manifest("x") | {"metadata": {"name": "x", "annotations": {"kubernetes.io/config.source": "file"}}},
    )[:2] == (403, "Forbidden")


def test_pods_of_foreground_runs_are_there_too(machine: Machine, api: Client) -> None:
    run = subprocess.Popen(
        machine.command("run", "--network=none", "--name=fg", "--image=podlite.local/host:1", "--", "/bin/sh", "-c",
                        "echo hello; exec sleep 1000"),
        env=machine.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        machine.running("fg")
        until(lambda: api.request("GET", f"{PODS}/fg/log") == "hello\n")
        with Channels(machine.socket, f"{PODS}/fg/exec", command=["/bin/echo", "hi"]) as channels:
            channels.read_all()
            assert channels.output[1] == b"hi\n"
        assert api.request("GET", "/pods")["items"] == []  # it is not the agent's
        machine.delete("fg")
        machine.gone("fg")
        run.wait(30)
    finally:
        run.kill()
        run.communicate()


def test_an_attachment_ends_with_its_instance(machine: Machine, api: Client) -> None:
    """One that is started again at once is not waited for: of the agent's pod and of a foreground run's alike."""
    script = "read line; echo got $line; exit 3"
    own = manifest("own", script=script, container={"stdin": True})
    theirs = machine.manifests.parent / "theirs.json"
    theirs.write_text(json.dumps(manifest("theirs", script=script, container={"stdin": True})))
    api.request("POST", PODS, own)
    run = subprocess.Popen(
        machine.command("run", "--network=none", str(theirs)),
        env=machine.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for name in ("own", "theirs"):
            machine.running(name)
            with Channels(machine.socket, f"{PODS}/{name}/attach", stdin="true") as channels:
                channels.send(0, b"end\n")
                assert (channels.read_all() or {})["status"] == "Success"
                assert channels.output[1] == b"got end\n"
            # The next instance runs, and nobody is attached to it.
            machine.wait(name, lambda pod: container_status(pod)["restartCount"] == 1)
        machine.delete("theirs")
        run.wait(30)
    finally:
        run.kill()
        run.wait()


# --- tables -------------------------------------------------------------------------------------

# What kubectl get asks for (k8s.io/kubectl/pkg/cmd/get, transformRequests).
AS_TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)


def fetch(machine: Machine, path: str, accept: str) -> tuple[int, str, list[dict[str, Any]]]:
    """(code, content type, the answer's lines) of a GET."""
    transport = httpx.HTTPTransport(uds=machine.socket)
    with httpx.Client(transport=transport, base_url="http://podlite", headers={"Accept": accept}, timeout=30) as client:
        answer = client.get(path)
    return answer.status_code, answer.headers["content-type"], [json.loads(each) for each in answer.text.splitlines()]


def names(table: dict[str, Any]) -> list[str]:
    return [each["name"] for each in table["columnDefinitions"]]


def test_tables(machine: Machine, api: Client) -> None:
    """printers.go for the columns, metav1.Table for the form, "Receiving resources as Tables" of the API concepts."""
    machine.create("web", labels={"app": "web"})
    pod = machine.running("web")
    code, type, (table,) = fetch(machine, PODS, AS_TABLE)
    assert (code, type) == (200, "application/json")
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert table["metadata"]["resourceVersion"] == api.request("GET", PODS)["metadata"]["resourceVersion"]
    assert names(table)[:5] == ["Name", "Ready", "Status", "Restarts", "Age"]
    (row,) = table["rows"]
    assert row["cells"][:4] == ["web", "1/1", "Running", "0"]
    assert len(row["cells"]) == len(table["columnDefinitions"]) == 9
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert row["object"]["metadata"]["uid"] == pod["metadata"]["uid"]
    assert "spec" not in row["object"]
    assert fetch(machine, f"{PODS}?includeObject=None", AS_TABLE)[2][0]["rows"][0]["object"] is None
    whole = fetch(machine, f"{PODS}/web?includeObject=Object", AS_TABLE)[2][0]["rows"][0]["object"]
    assert (whole["kind"], whole["status"]["phase"]) == ("Pod", "Running")
    code, _, (status,) = fetch(machine, f"{PODS}?includeObject=Some", AS_TABLE)
    assert (code, status["reason"]) == (400, "BadRequest")
    assert fetch(machine, f"{PODS}?labelSelector=app=other", AS_TABLE)[2][0]["rows"] == []
    # Errors are Statuses in any form; what there is in no form that is accepted is 406.
    code, _, (status,) = fetch(machine, f"{PODS}/nothing", AS_TABLE)
    assert (code, status["kind"], status["reason"]) == (404, "Status", "NotFound")
    code, _, (status,) = fetch(machine, PODS, "application/json;as=Table;v=v7;g=meta.k8s.io")
    assert (code, status["reason"]) == (406, "NotAcceptable")
    assert fetch(machine, PODS, "application/json;as=Table;v=v7;g=meta.k8s.io,application/json")[2][0]["kind"] == (
        "PodList"
    )
    value = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "settings"}, "data": {"colour": "red"}}
    api.request("POST", "/api/v1/namespaces/default/configmaps", value)
    for resource, columns in (
        ("configmaps", ["Name", "Data", "Age"]),
        ("secrets", ["Name", "Type", "Data", "Age"]),
        ("events", ["Last Seen", "Type", "Reason", "Object", "Subobject"]),
    ):
        table = fetch(machine, f"/api/v1/namespaces/default/{resource}", AS_TABLE)[2][0]
        assert names(table)[:5] == columns
        assert bool(table["rows"]) is (resource != "secrets")
    one = fetch(machine, "/api/v1/namespaces/default/configmaps/settings", AS_TABLE)[2][0]
    assert one["rows"][0]["cells"][:2] == ["settings", 1]
    partial = fetch(machine, PODS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")[2][0]
    assert [each["metadata"]["name"] for each in partial["items"]] == ["web"]


def test_a_watch_of_tables(machine: Machine, api: Client) -> None:
    machine.create("web")
    machine.running("web")
    lines = fetch(machine, f"{PODS}?watch=true&timeoutSeconds=1", AS_TABLE)[2]
    assert [each["type"] for each in lines] == ["ADDED"]
    assert names(lines[0]["object"])[0] == "Name"
    since = api.request("GET", PODS)["metadata"]["resourceVersion"]
    machine.delete("web")
    machine.gone("web")
    lines = fetch(machine, f"{PODS}?watch=true&timeoutSeconds=1&resourceVersion={since}", AS_TABLE)[2]
    assert [each["type"] for each in lines][-1] == "DELETED"
    assert [each["object"]["columnDefinitions"] is None for each in lines] == [False] + [True] * (len(lines) - 1)
    assert lines[-1]["object"]["rows"][0]["cells"][0] == "web"
    # What has been missed is an error, and no table.
    (late,) = fetch(machine, f"{PODS}?watch=true&timeoutSeconds=1&resourceVersion=1", AS_TABLE)[2]
    assert late["reason"] == "Expired"
