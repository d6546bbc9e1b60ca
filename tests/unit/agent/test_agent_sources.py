"""Manifests as sources of pods. Source: pkg/kubelet/config/common_test.go, file_linux_test.go, http_test.go, 1.36."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.agent.comeback import after_reboot
from podlite.agent.sources.directory import read_directory, read_manifest
from podlite.agent.sources.manifests import ManifestSource
from podlite.agent.sources.static_pods import static_pod
from podlite.api.status import ContainerState, ContainerStateRunning, ContainerStatus, PodStatus
from tests.support.pods import a_pod, policy

SEEN = "2026-11-23T20:00:00Z"
POD = b"{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: c, image: 'img:1'}]}}"


def static(**fields: Any) -> Any:
    options = {"source": "file", "origin": "/etc/web.yaml", "node_name": "Node-1", "seen": SEEN, **fields}
    return static_pod(options.pop("pod", a_pod(uid="")), **options)


def test_a_static_pods_identity() -> None:
    pod = static()
    meta = pod.metadata
    assert (meta.name, meta.namespace, len(meta.uid)) == ("web-node-1", "default", 32)
    assert pod.spec.node_name == "Node-1"
    assert meta.annotations["kubernetes.io/config.hash"] == meta.uid
    assert meta.annotations["kubernetes.io/config.source"] == "file"
    assert [(each.operator, each.effect) for each in pod.spec.tolerations] == [("Exists", "NoExecute")]
    assert static(source="http").spec.tolerations == []


def test_the_uid_depends_on_the_manifest_its_place_and_the_machine() -> None:
    uid = static().metadata.uid
    assert static().metadata.uid == uid
    others = [
        static(origin="/etc/other.yaml"),
        static(node_name="node-2"),
        static(source="http"),
        static(pod=a_pod(uid="", name="other")),
        static(pod=a_pod(uid="", containers=2)),
    ]
    assert len({uid, *(each.metadata.uid for each in others)}) == 6
    assert static(pod=a_pod(uid="given")).metadata.uid == "given"
    # A manifest that was copied from a cluster has a status, which says nothing about what is wanted.
    copied = a_pod(uid="")
    copied.status.phase = "Running"
    assert static(pod=copied).metadata.uid == uid
    assert static(pod=copied).status == PodStatus()


def test_a_static_pod_needs_a_name() -> None:
    """tryDecodeSinglePod in pkg/kubelet/config/common.go: generateName will not do."""
    source = ManifestSource("file", "node-1")
    problem = source.read("/etc/web.yaml", POD.replace(b"name: web", b"generateName: web-"), SEEN)
    assert problem == "/etc/web.yaml: metadata.name: Required value: name is needed for the pod"
    assert source.pods() == {}


def test_the_last_good_version_counts() -> None:
    source = ManifestSource("file", "node-1")
    assert source.read("/m/web", POD, SEEN) == ""
    assert source.read("/m/web", POD, SEEN) is None
    [before] = source.pods()
    said = source.read("/m/web", POD[:-4], SEEN)
    assert said
    assert "/m/web" in said
    assert list(source.pods()) == [before]
    assert source.read("/m/web", POD[:-4], SEEN) is None  # told once
    assert source.read("/m/web", POD.replace(b"img:1", b"img:2"), SEEN) == ""
    assert list(source.pods()) != [before]
    assert source.problems == {}
    assert source.keep_only([])
    assert source.pods() == {}


@given(st.binary(max_size=300))
def test_no_text_breaks_a_source(text: bytes) -> None:
    source = ManifestSource("file", "node-1")
    source.read("/m/web", POD, SEEN)
    source.read("/m/web", text, SEEN)
    assert len(source.pods()) in (0, 1)


def test_what_is_read_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_bytes(POD)
    (tmp_path / ".hidden").write_bytes(POD)
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "web.yaml")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "fifo")
    found = read_directory(str(tmp_path))
    assert found == {f"{tmp_path}/web.yaml": POD, f"{tmp_path}/link": POD}
    assert read_directory(f"{tmp_path}/nothing") == {}


def test_a_file_that_is_being_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    with path.open("wb") as file:
        file.write(POD[:20])
        file.flush()
        assert read_directory(str(tmp_path)) == {str(path): None}
        file.write(POD[20:])
    assert read_directory(str(tmp_path)) == {str(path): POD}


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(11 << 20)
    with pytest.raises(OSError, match="at most 10 MiB"):
        read_manifest(str(path))
    assert "cannot be read" in str(read_directory(str(tmp_path))[str(path)])


# --- after a reboot ---------------------------------------------------------------------------


def ran(pod: Any) -> Any:
    running = ContainerState(running=ContainerStateRunning(started_at=SEEN))
    pod.status = PodStatus(
        phase="Running", container_statuses=[ContainerStatus(name="c1", state=running, container_id="podlite://1")]
    )
    return pod


def test_the_restart_policy_decides_after_a_reboot() -> None:
    for value in ("Always", "OnFailure"):
        again = after_reboot(ran(a_pod(policy(value))))
        assert again is not None
        assert (again.status.phase, again.status.container_statuses) == ("Pending", [])
    over = after_reboot(ran(a_pod(policy("Never"))))
    assert over is not None
    assert (over.status.phase, over.status.reason) == ("Failed", "NodeReboot")
    ended = over.status.container_statuses[0].state.terminated
    assert ended is not None
    assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
    fresh = after_reboot(a_pod(policy("Never")))
    assert fresh is not None
    assert fresh.status.phase == "Pending"


def test_what_was_over_or_deleted_before_a_reboot() -> None:
    over = a_pod(policy("Always"))
    over.status = PodStatus(phase="Succeeded")
    assert after_reboot(over) is over
    deleted = ran(a_pod())
    deleted.metadata.deletion_timestamp = SEEN
    assert after_reboot(deleted) is None
