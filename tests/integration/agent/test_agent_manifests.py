"""Static pods, from directories and URLs: what is dropped, edited, renamed, broken and removed."""

from __future__ import annotations

import http.server
import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.agents import Machine, container_status, manifest, until

pytestmark = [pytest.mark.root]


def events(machine: Machine, reason: str) -> list[dict[str, Any]]:
    return list(machine.client.request("GET", "/api/v1/events", fieldSelector=f"reason={reason}")["items"])


def test_dropped_edited_renamed_removed(machine: Machine) -> None:
    machine.start()
    name = machine.drop("web")
    first = machine.running(name)
    assert first["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
    # Edited: another pod of the same name, once the old one is gone.
    machine.drop("web", labels={"version": "2"})
    second = machine.wait(name, lambda pod: pod["metadata"]["uid"] != first["metadata"]["uid"])
    assert second["metadata"]["labels"] == {"version": "2"}
    machine.running(name)
    # Renamed: the kubelet's UID depends on the path.
    (machine.manifests / "web.json").rename(machine.manifests / "other.json")
    machine.wait(name, lambda pod: pod["metadata"]["uid"] not in (first["metadata"]["uid"], second["metadata"]["uid"]))
    machine.running(name)
    (machine.manifests / "other.json").unlink()
    machine.gone(name)


def test_a_broken_edit_leaves_the_pod_alone(machine: Machine) -> None:
    machine.start()
    name = machine.drop("web")
    before = container_status(machine.running(name))
    path = machine.manifests / "web.json"
    path.write_text(path.read_text()[:-10])
    found = until(
        lambda: [each for each in events(machine, "InvalidManifest") if each["involvedObject"]["kind"] == "Pod"]
    )
    assert str(path) in found[0]["message"]
    assert container_status(machine.running(name)) == before
    # Mended as it was: nothing has happened.
    machine.drop("web")
    machine.drop("marker")
    machine.running(f"marker-{machine.node}")
    assert container_status(machine.running(name)) == before


def test_a_manifest_that_was_never_good_is_an_event_of_the_machine(machine: Machine) -> None:
    machine.start()
    (machine.manifests / "bad.yaml").write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {}\n")
    [event] = until(lambda: events(machine, "InvalidManifest"))
    assert event["involvedObject"]["kind"] == "Node"
    assert "spec.containers" in event["message"]
    assert machine.pods() == []


def test_a_manifest_in_parts_is_read_when_it_is_whole(machine: Machine) -> None:
    machine.start()
    text = json.dumps(manifest("web"))
    with (machine.manifests / "web.json").open("w") as file:
        file.write(text[:50])
        file.flush()
        machine.drop("marker")
        machine.running(f"marker-{machine.node}")
        assert events(machine, "InvalidManifest") == []
        file.write(text[50:])
    machine.running(f"web-{machine.node}")


def test_objects_of_manifests(machine: Machine) -> None:
    machine.start()
    value = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "settings"}, "data": {"colour": "red"}}
    pod = manifest("web", script="echo $COLOUR; exec sleep 1000")
    ref = {"configMapKeyRef": {"name": "settings", "key": "colour"}}
    pod["spec"]["containers"][0]["env"] = [{"name": "COLOUR", "valueFrom": ref}]
    text = f"{json.dumps(value)}\n---\n{json.dumps(pod)}\n"
    (machine.manifests / "both.yaml").write_text(text)
    name = f"web-{machine.node}"
    machine.running(name)
    until(lambda: machine.client.request("GET", f"/api/v1/namespaces/default/pods/{name}/log") == "red\n")


def test_a_name_in_two_manifests(machine: Machine) -> None:
    machine.start()
    name = machine.drop("web")
    first = machine.running(name)
    (machine.manifests / "again.json").write_text(json.dumps(manifest("web", labels={"which": "second"})))
    until(lambda: events(machine, "PodNameTaken"))
    (machine.manifests / "web.json").unlink()
    second = machine.wait(name, lambda pod: pod["metadata"]["uid"] != first["metadata"]["uid"])
    assert second["metadata"]["labels"] == {"which": "second"}
    machine.running(name)


def test_a_directory_that_comes_later_and_a_reload(machine: Machine) -> None:
    late = machine.manifests.parent / "late"
    process = machine.start(f"--manifest-dir={late}")
    late.mkdir()
    (late / "web.json").write_text(json.dumps(manifest("web")))
    process.send_signal(signal.SIGHUP)
    machine.running(f"web-{machine.node}")
    (late / "web.json").unlink()
    machine.gone(f"web-{machine.node}")
    late.rmdir()


class _Manifests(http.server.BaseHTTPRequestHandler):
    content = b""
    code = 200

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Manifests) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_manifest_behind_a_url(machine: Machine, server: http.server.HTTPServer) -> None:
    _Manifests.content, _Manifests.code = json.dumps(manifest("web")).encode(), 200
    url = f"http://127.0.0.1:{server.server_port}/pods"
    machine.start(f"--manifest-url={url}", "--check-frequency=0.1")
    name = f"web-{machine.node}"
    before = machine.running(name)
    assert before["metadata"]["annotations"]["kubernetes.io/config.source"] == "http"
    # A server in trouble is no reason to end pods.
    _Manifests.code = 500
    until(lambda: [each for each in events(machine, "InvalidManifest") if "500" in each["message"]])
    assert machine.running(name)["metadata"]["uid"] == before["metadata"]["uid"]
    _Manifests.code, _Manifests.content = 200, json.dumps(manifest("web", labels={"v": "2"})).encode()
    machine.wait(name, lambda pod: pod["metadata"].get("labels") == {"v": "2"})
    machine.running(name)
