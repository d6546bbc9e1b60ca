"""Volumes as far as they need no privilege: content, messages, named volumes, mounts.

Expected texts from pkg/volume/{hostpath,configmap,secret,projected,downwardapi,emptydir}, kubelet_pods.go (makeMounts),
operationexecutor (the message of FailedMount events) and eviction/helpers.go, Kubernetes 1.36.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import anyio
import pytest

from podlite.api.config import ConfigMap, Secret
from podlite.api.container import Container, ResourceRequirements, VolumeMount
from podlite.api.env import ObjectFieldSelector, ResourceFieldSelector
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod, PodSpec
from podlite.api.volumes import (
    ClusterTrustBundleProjection,
    ConfigMapProjection,
    ConfigMapVolumeSource,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    ImageVolumeSource,
    KeyToPath,
    PersistentVolumeClaimVolumeSource,
    ProjectedVolumeSource,
    SecretProjection,
    SecretVolumeSource,
    ServiceAccountTokenProjection,
    Volume,
    VolumeProjection,
)
from podlite.api.volumes_network import NFSVolumeSource
from podlite.cri.types import ImageSpec, Mount, MountPropagation
from podlite.kubelet.objects import Objects
from podlite.kubelet.types import ContainerConfigError, KubeletConfig, KubeletError
from podlite.kubelet.volumes import tmpfs
from podlite.kubelet.volumes.context import Context, memory_size, nested_mount_points
from podlite.kubelet.volumes.local import local_volumes, remove_local_volume
from podlite.kubelet.volumes.manager import VolumeManager, VolumesNotReady, pods_with_volumes
from podlite.kubelet.volumes.mounts import make_mounts
from podlite.kubelet.volumes.ownership import changed_mode, needs_change
from podlite.kubelet.volumes.usage import disk_usage, exceeded_limit

MEBI = 1 << 20

OBJECTS = Objects(
    [
        ConfigMap(
            metadata=ObjectMeta(name="cm", namespace="ns"), data={"a": "1", "b": "2"}, binary_data={"raw": b"\xff"}
        ),
        Secret(metadata=ObjectMeta(name="s", namespace="ns"), data={"user": b"root", "pass": b"\0"}),
    ]
)


@pytest.fixture(autouse=True)
def unprivileged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is where nothing can be mounted: what belongs in memory is on the disk."""
    monkeypatch.setattr(tmpfs, "mount_tmpfs", lambda directory, size: False)


@pytest.fixture
def config(tmp_path: Path) -> KubeletConfig:
    return KubeletConfig(state_dir=str(tmp_path / "state"), memory_bytes=1 << 30, cpu_count=2)


def pod(*volumes: Volume, containers: list[Container] | None = None, **meta: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u-1", **meta),
        spec=PodSpec(volumes=list(volumes), containers=containers or [Container(name="c")]),
    )


def set_up(given: Pod, config: KubeletConfig, objects: Objects = OBJECTS) -> dict[str, str]:
    async def run() -> dict[str, str]:
        return await VolumeManager(config, objects).set_up(given)

    return anyio.run(run)


def problem(given: Pod, config: KubeletConfig) -> str:
    with pytest.raises(VolumesNotReady) as failure:
        set_up(given, config)
    (text,) = failure.value.problems.values()
    return text


def content(directory: str) -> dict[str, bytes]:
    result = {}
    for parent, directories, names in os.walk(directory, followlinks=True):
        directories[:] = [name for name in directories if not name.startswith("..")]
        for name in names:
            if not name.startswith(".."):
                path = os.path.join(parent, name)
                result[os.path.relpath(path, directory)] = Path(path).read_bytes()
    return result


def write(directory: str, name: str, data: bytes) -> None:
    Path(directory, name).write_bytes(data)


def is_empty_dir(config: KubeletConfig, name: str) -> bool:
    return os.path.isdir(f"{config.state_dir}/pods/u-1/volumes/kubernetes.io~empty-dir/{name}")


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# --- the kinds --------------------------------------------------------------------------------


def test_nothing_is_made_for_a_pod_without_volumes(config: KubeletConfig) -> None:
    assert set_up(pod(), config) == {}
    assert not os.path.exists(config.state_dir)


def test_empty_dir(config: KubeletConfig) -> None:
    given = pod(Volume(name="e", empty_dir=EmptyDirVolumeSource()))
    before = os.umask(0o077)
    try:
        path = set_up(given, config)["e"]
    finally:
        os.umask(before)
    # The kubelet's directory names; anybody in the pod may write.
    assert path == f"{config.state_dir}/pods/u-1/volumes/kubernetes.io~empty-dir/e"
    assert mode(path) == 0o777
    assert mode(os.path.dirname(path)) & 0o007 == 0
    Path(path, "kept").touch()
    os.chmod(path, 0o700)
    assert set_up(given, config)["e"] == path
    assert os.listdir(path) == ["kept"]
    assert mode(path) == 0o700


def test_an_unknown_medium(config: KubeletConfig) -> None:
    given = pod(Volume(name="e", empty_dir=EmptyDirVolumeSource(medium="Tape")))
    assert problem(given, config) == 'MountVolume.SetUp failed for volume "e" : unknown storage medium "Tape"'
    huge = pod(Volume(name="e", empty_dir=EmptyDirVolumeSource(medium="HugePages")))
    assert problem(huge, config) == (
        'MountVolume.SetUp failed for volume "e" : '
        "medium HugePages: hugePages storage requested, but there is no resource request for huge pages"
    )


@pytest.mark.parametrize(
    ("limit", "resources", "size"),
    [
        # calculateEmptyDirMemorySize: the least of the machine, the pod's memory limit and the volume's own.
        (None, {}, 1 << 30),
        ("64Mi", {}, 64 * MEBI),
        ("4Gi", {}, 1 << 30),
        (None, {"memory": "128Mi"}, 128 * MEBI),
        ("256Mi", {"memory": "128Mi"}, 128 * MEBI),
        ("64Mi", {"memory": "128Mi"}, 64 * MEBI),
    ],
)
def test_the_size_of_memory_volumes(
    config: KubeletConfig, limit: str | None, resources: dict[str, str], size: int
) -> None:
    volume = Volume(name="e", empty_dir=EmptyDirVolumeSource(medium="Memory", size_limit=limit))
    limited = Container(name="c", resources=ResourceRequirements(limits=resources, requests=resources))
    context = Context(pod(volume, containers=[limited]), volume, config, OBJECTS)
    assert memory_size(context, limit) == size


def host_path(path: Path | str, kind: str = "") -> Pod:
    return pod(Volume(name="h", host_path=HostPathVolumeSource(path=str(path), type=kind)))


def test_host_paths_that_are_there(config: KubeletConfig, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").touch()
    (tmp_path / "link").symlink_to("d")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        for name, kinds in (
            ("none", ("",)),
            ("d", ("", "Directory", "DirectoryOrCreate")),
            ("link", ("Directory",)),
            ("f", ("", "File", "FileOrCreate")),
            ("s", ("Socket",)),
        ):
            for kind in kinds:
                assert set_up(host_path(tmp_path / name, kind), config) == {"h": str(tmp_path / name)}
    assert set_up(host_path("/dev/null", "CharDevice"), config) == {"h": "/dev/null"}


def test_host_paths_that_are_made(config: KubeletConfig, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        set_up(host_path(tmp_path / "a/b", "DirectoryOrCreate"), config)
        set_up(host_path(tmp_path / "f", "FileOrCreate"), config)
    finally:
        os.umask(before)
    assert mode(str(tmp_path / "a/b")) == 0o755
    assert mode(str(tmp_path / "f")) == 0o644


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("none", "Directory", "hostPath type check failed: {} is not a directory"),
        ("f", "Directory", "hostPath type check failed: {} is not a directory"),
        ("f", "DirectoryOrCreate", "hostPath type check failed: {} is not a directory"),
        ("d", "File", "hostPath type check failed: {} is not a file"),
        ("d", "FileOrCreate", "hostPath type check failed: {} is not a file"),
        ("f", "Socket", "hostPath type check failed: {} is not a socket file"),
        ("none", "CharDevice", "hostPath type check failed: {} is not a character device"),
        ("f", "BlockDevice", "hostPath type check failed: {} is not a block device"),
        ("f", "Floppy", "Floppy is an invalid volume type"),
        # Its parents are not made.
        ("none/f", "FileOrCreate", "open {}: no such file or directory"),
        ("f/d", "DirectoryOrCreate", "mkdir {}: not a directory"),
    ],
)
def test_host_paths_that_are_not_right(config: KubeletConfig, tmp_path: Path, name: str, kind: str, text: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").touch()
    expected = text.format(tmp_path / name)
    assert problem(host_path(tmp_path / name, kind), config) == f'MountVolume.SetUp failed for volume "h" : {expected}'


def test_host_paths_do_not_go_up(config: KubeletConfig) -> None:
    expected = "invalid HostPath `/a/../b`: must not contain '..'"
    assert problem(host_path("/a/../b"), config) == f'MountVolume.SetUp failed for volume "h" : {expected}'


def test_config_map(config: KubeletConfig) -> None:
    path = set_up(pod(Volume(name="v", config_map=ConfigMapVolumeSource(name="cm", default_mode=0o644))), config)["v"]
    assert path == f"{config.state_dir}/pods/u-1/volumes/kubernetes.io~configmap/v"
    assert content(path) == {"a": b"1", "b": b"2", "raw": b"\xff"}
    assert mode(f"{path}/a") == 0o644


def test_config_map_items(config: KubeletConfig) -> None:
    items = [KeyToPath(key="a", path="deep/x"), KeyToPath(key="raw", path="y", mode=0o400)]
    source = ConfigMapVolumeSource(name="cm", items=items, default_mode=0o640)
    path = set_up(pod(Volume(name="v", config_map=source)), config)["v"]
    assert content(path) == {"deep/x": b"1", "y": b"\xff"}
    assert (mode(f"{path}/deep/x"), mode(f"{path}/y")) == (0o640, 0o400)


def test_secret(config: KubeletConfig) -> None:
    source = SecretVolumeSource(secret_name="s", default_mode=0o400)
    path = set_up(pod(Volume(name="v", secret=source)), config)["v"]
    assert path == f"{config.state_dir}/pods/u-1/volumes/kubernetes.io~secret/v"
    assert content(path) == {"user": b"root", "pass": b"\0"}
    assert mode(f"{path}/user") == 0o400


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        (Volume(name="v", config_map=ConfigMapVolumeSource(name="none")), 'configmap "none" not found'),
        (Volume(name="v", secret=SecretVolumeSource(secret_name="none")), 'secret "none" not found'),
        (
            Volume(name="v", config_map=ConfigMapVolumeSource(name="cm", items=[KeyToPath(key="x", path="x")])),
            "configmap references non-existent config key: x",
        ),
        (
            Volume(name="v", secret=SecretVolumeSource(secret_name="s", items=[KeyToPath(key="x", path="x")])),
            "references non-existent secret key: x",
        ),
        (Volume(name="v", nfs=NFSVolumeSource(server="s", path="/")), "no volume plugin matched"),
    ],
)
def test_what_is_missing(config: KubeletConfig, volume: Volume, text: str) -> None:
    assert problem(pod(volume), config) == f'MountVolume.SetUp failed for volume "v" : {text}'


def test_what_is_optional_may_be_missing(config: KubeletConfig) -> None:
    paths = set_up(
        pod(
            Volume(name="a", config_map=ConfigMapVolumeSource(name="none", optional=True)),
            Volume(name="b", secret=SecretVolumeSource(secret_name="none", optional=True)),
            Volume(
                name="c",
                config_map=ConfigMapVolumeSource(
                    name="cm", optional=True, items=[KeyToPath(key="x", path="x"), KeyToPath(key="a", path="a")]
                ),
            ),
        ),
        config,
    )
    assert [content(paths[name]) for name in "abc"] == [{}, {}, {"a": b"1"}]


def test_downward_api(config: KubeletConfig) -> None:
    # "Expose Pod Information to Containers Through Files": one line key="value" for each label, sorted, quoted.
    items = [
        DownwardAPIVolumeFile(path="labels", field_ref=ObjectFieldSelector(field_path="metadata.labels")),
        DownwardAPIVolumeFile(
            path="sub/note", field_ref=ObjectFieldSelector(field_path="metadata.annotations['note']"), mode=0o400
        ),
        DownwardAPIVolumeFile(
            path="cpu", resource_field_ref=ResourceFieldSelector(container_name="c", resource="limits.cpu")
        ),
        DownwardAPIVolumeFile(
            path="memory",
            resource_field_ref=ResourceFieldSelector(container_name="c", resource="limits.memory", divisor="1Mi"),
        ),
    ]
    volume = Volume(name="v", downward_api=DownwardAPIVolumeSource(items=items, default_mode=0o644))
    given = pod(volume, labels={"zone": "a", "cluster": 'x"\ny'}, annotations={"note": "free\ntext"})
    path = set_up(given, config)["v"]
    assert path == f"{config.state_dir}/pods/u-1/volumes/kubernetes.io~downward-api/v"
    assert content(path) == {
        "labels": b'cluster="x\\"\\ny"\nzone="a"',
        "sub/note": b"free\ntext",
        "cpu": b"2",
        "memory": b"1024",
    }
    assert mode(f"{path}/sub/note") == 0o400


def test_downward_api_names_all_that_is_wrong(config: KubeletConfig) -> None:
    items = [
        DownwardAPIVolumeFile(path="a", field_ref=ObjectFieldSelector(field_path="spec.nodeName")),
        DownwardAPIVolumeFile(
            path="b", resource_field_ref=ResourceFieldSelector(container_name="x", resource="limits.cpu")
        ),
    ]
    given = pod(Volume(name="v", downward_api=DownwardAPIVolumeSource(items=items)))
    assert problem(given, config) == (
        'MountVolume.SetUp failed for volume "v" : [unsupported fieldPath: spec.nodeName, container x not found]'
    )


def projected(*sources: VolumeProjection) -> Volume:
    return Volume(name="v", projected=ProjectedVolumeSource(sources=list(sources), default_mode=0o644))


def test_projected(config: KubeletConfig) -> None:
    name = ObjectFieldSelector(field_path="metadata.name")
    volume = projected(
        VolumeProjection(config_map=ConfigMapProjection(name="cm", items=[KeyToPath(key="a", path="same")])),
        VolumeProjection(secret=SecretProjection(name="s", items=[KeyToPath(key="user", path="d/user", mode=0o400)])),
        VolumeProjection(
            downward_api=DownwardAPIProjection(items=[DownwardAPIVolumeFile(path="same", field_ref=name)])
        ),
        VolumeProjection(cluster_trust_bundle=ClusterTrustBundleProjection(name="x", path="ca.pem", optional=True)),
    )
    path = set_up(pod(volume), config)["v"]
    assert content(path) == {"same": b"p", "d/user": b"root", "ca.pem": b""}
    assert mode(f"{path}/d/user") == 0o400


def test_projected_tells_what_cannot_be_had(config: KubeletConfig) -> None:
    token = VolumeProjection(service_account_token=ServiceAccountTokenProjection(path="token"))
    text = problem(pod(projected(token)), config)
    assert text.startswith('MountVolume.SetUp failed for volume "v" : the source serviceAccountToken is not available')
    both = projected(VolumeProjection(secret=SecretProjection(name="none")), token)
    assert problem(pod(both), config).startswith(
        'MountVolume.SetUp failed for volume "v" : [secret "none" not found, the source serviceAccountToken'
    )


# --- the manager ------------------------------------------------------------------------------


def test_what_can_be_set_up_is_and_failures_wait_longer_each_time(config: KubeletConfig) -> None:
    given = pod(
        Volume(name="good", empty_dir=EmptyDirVolumeSource()),
        Volume(name="bad", config_map=ConfigMapVolumeSource(name="late")),
        Volume(name="worse", secret=SecretVolumeSource(secret_name="late")),
    )
    objects = Objects()

    async def run() -> None:
        manager = VolumeManager(config, objects)
        waits = []
        for _ in range(10):
            with pytest.raises(VolumesNotReady) as failure:
                await manager.set_up(given)
            waits.append(failure.value.retry_after)
        assert set(failure.value.problems) == {"bad", "worse"}
        assert failure.value.reason == "FailedMount"
        # goroutinemap/exponentialbackoff: 500 ms, doubled, up to 2 min 2 s.
        assert waits == [0.5, 1, 2, 4, 8, 16, 32, 64, 122, 122]
        assert is_empty_dir(config, "good")
        objects.update(
            [
                ConfigMap(metadata=ObjectMeta(name="late", namespace="ns")),
                Secret(metadata=ObjectMeta(name="late", namespace="ns")),
            ]
        )
        assert set(await manager.set_up(given)) == {"good", "bad", "worse"}

    anyio.run(run)


def test_updates_and_the_end(config: KubeletConfig) -> None:
    objects = Objects([ConfigMap(metadata=ObjectMeta(name="cm", namespace="ns"), data={"a": "1"})])
    given = pod(
        Volume(name="v", config_map=ConfigMapVolumeSource(name="cm")),
        Volume(name="e", empty_dir=EmptyDirVolumeSource()),
        Volume(name="d", persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="data")),
    )

    async def run() -> None:
        manager = VolumeManager(config, objects)
        paths = await manager.set_up(given)
        objects.update([ConfigMap(metadata=ObjectMeta(name="cm", namespace="ns"), data={"a": "2", "b": "3"})])
        await manager.update(given)
        assert content(paths["v"]) == {"a": b"2", "b": b"3"}
        objects.remove("ConfigMap", "ns", "cm")
        with pytest.raises(VolumesNotReady):
            await manager.update(given)
        # What is gone from the store stays in the volume.
        assert content(paths["v"]) == {"a": b"2", "b": b"3"}
        write(paths["d"], "precious", b"x")
        assert pods_with_volumes(config) == ["u-1"]
        # By another process that knows only the UID.
        await VolumeManager(config, Objects()).tear_down("u-1")
        await manager.tear_down("u-1")
        assert pods_with_volumes(config) == []
        assert content(paths["d"]) == {"precious": b"x"}

    anyio.run(run)


def test_image_volumes_are_the_runtimes(config: KubeletConfig) -> None:
    assert set_up(pod(Volume(name="i", image=ImageVolumeSource(reference="x"))), config) == {}


def test_named_volumes(config: KubeletConfig) -> None:
    volume = Volume(name="d", persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="data"))
    assert local_volumes(config) == []
    path = set_up(pod(volume), config)["d"]
    assert path == f"{config.state_dir}/volumes/ns_data"
    assert mode(path) == 0o777
    # A host user must not get at what anybody in a pod may write.
    assert mode(os.path.dirname(path)) & 0o007 == 0
    other = pod(volume)
    other.metadata.namespace, other.metadata.uid = "other", "u-2"
    assert set_up(other, config)["d"] == f"{config.state_dir}/volumes/other_data"
    found = {(each.namespace, each.claim): each.pods for each in local_volumes(config)}
    assert found == {("ns", "data"): ("u-1",), ("other", "data"): ("u-2",)}
    Path(path, "file").touch()
    with pytest.raises(KubeletError) as failure:
        remove_local_volume(config, "ns", "data")
    assert failure.value.message == "the volume data of the namespace ns is in use by the pod u-1"

    async def end() -> None:
        await VolumeManager(config, OBJECTS).tear_down("u-1")

    anyio.run(end)
    assert content(path) == {"file": b""}
    remove_local_volume(config, "ns", "data")
    assert [each.namespace for each in local_volumes(config)] == ["other"]
    with pytest.raises(KubeletError, match="does not exist"):
        remove_local_volume(config, "ns", "data")


# --- nested mounts, ownership, usage ----------------------------------------------------------


@pytest.mark.parametrize(
    ("mounts", "nested"),
    [
        ([("v", "/dir")], []),
        ([("v", "/dir"), ("w", "/dir/nested")], ["nested"]),
        # Only what is directly inside: the rest is the inner volume's business.
        ([("v", "/dir"), ("w", "/dir/nested"), ("x", "/dir/nested/double")], ["nested"]),
        (
            [("v", "/dir"), ("a", "/dir/nested"), ("b", "/dir/nested-vol"), ("c", "/dir/nested2"),
             ("d", "/dir/nested/double")],
            ["nested", "nested-vol", "nested2"],
        ),
        ([("v", "/dir"), ("w", "/other/dir")], []),
        ([("v", "/dir"), ("v", "/other"), ("w", "/other/x/y")], ["x/y"]),
        ([("v", "/dir/"), ("w", "/dir//deep/./er")], ["deep/er"]),
    ],
)  # fmt: skip
def test_nested_mount_points(mounts: list[tuple[str, str]], nested: list[str]) -> None:
    own = Container(name="c", volume_mounts=[VolumeMount(name=name, mount_path=path) for name, path in mounts])
    assert nested_mount_points(pod(containers=[own]), "v") == nested


def test_a_mount_path_cannot_lead_out_of_the_container() -> None:
    own = Container(name="c", volume_mounts=[VolumeMount(name="v", mount_path="../x")])
    with pytest.raises(KubeletError, match=r"invalid container mount point \.\./x"):
        nested_mount_points(pod(containers=[own]), "v")


@pytest.mark.parametrize(
    ("before", "read_only", "after"),
    [
        # Files: rw-rw----, or r--r-----; directories also execute and setgid (volume_linux.go).
        (stat.S_IFREG | 0o600, False, 0o660),
        (stat.S_IFREG | 0o400, True, 0o440),
        (stat.S_IFREG | 0o4755, False, 0o4775),
        (stat.S_IFDIR | 0o755, False, 0o2775),
        (stat.S_IFDIR | 0o500, True, 0o2550),
    ],
)
def test_modes_for_the_group(before: int, read_only: bool, after: int) -> None:
    assert changed_mode(before, read_only=read_only) == after


@pytest.mark.parametrize(
    ("mode", "gid", "needed"),
    [
        (stat.S_IFDIR | 0o2775, 2000, False),
        (stat.S_IFDIR | 0o2770, 2000, False),
        (stat.S_IFDIR | 0o2770, 0, True),
        (stat.S_IFDIR | 0o0775, 2000, True),
        (stat.S_IFDIR | 0o2750, 2000, True),
        (stat.S_IFREG | 0o2770, 2000, True),
    ],
)
def test_on_root_mismatch(mode: int, gid: int, needed: bool) -> None:
    root = os.stat_result((mode, 1, 1, 1, 0, gid, 0, 0, 0, 0))
    assert needs_change(root, 2000, read_only=False) is needed


def test_disk_usage(tmp_path: Path) -> None:
    Path(tmp_path, "a").write_bytes(b"x" * MEBI)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "d").mkdir()
    Path(tmp_path, "d/c").write_bytes(b"x" * MEBI)
    os.symlink("/usr", tmp_path / "d/link")
    assert 2 * MEBI <= disk_usage(str(tmp_path)) < 2 * MEBI + 256 * 1024
    assert disk_usage(str(tmp_path / "none")) == 0


def test_a_pod_is_evicted_for_what_it_stores(config: KubeletConfig) -> None:
    given = pod(
        Volume(name="free", empty_dir=EmptyDirVolumeSource()),
        Volume(name="e", empty_dir=EmptyDirVolumeSource(size_limit="1Mi")),
    )

    async def run() -> None:
        manager = VolumeManager(config, OBJECTS)
        paths = await manager.set_up(given)
        write(paths["free"], "x", b"x" * 4 * MEBI)
        assert exceeded_limit(given, config) == ""
        write(paths["e"], "x", b"x" * 2 * MEBI)
        assert exceeded_limit(given, config) == 'Usage of EmptyDir volume "e" exceeds the limit "1Mi". '

    anyio.run(run)


# --- mounts -----------------------------------------------------------------------------------


def mounts(
    given: Pod, config: KubeletConfig, *, supported: bool = True, env: dict[str, str] | None = None, **paths: str
) -> list[Mount]:
    return make_mounts(
        given,
        given.spec.containers[0],
        config,
        volumes=paths,
        image_volumes={"image": ImageSpec(image="sha256:1")},
        environment=env or {},
        recursive_read_only=supported,
    )


def mounting(*wanted: VolumeMount, volumes: tuple[Volume, ...] = ()) -> Pod:
    return pod(*volumes, containers=[Container(name="c", volume_mounts=list(wanted))])


def test_plain_mounts(config: KubeletConfig) -> None:
    given = mounting(
        VolumeMount(name="v", mount_path="/v"),
        VolumeMount(name="v", mount_path="relative", read_only=True),
        VolumeMount(name="image", mount_path="/i", sub_path="etc"),
        VolumeMount(name="cm", mount_path="/cm"),
        VolumeMount(name="claim", mount_path="/claim"),
        VolumeMount(name="v", mount_path="/p", mount_propagation="HostToContainer"),
        VolumeMount(name="v", mount_path="/q", mount_propagation="Bidirectional"),
        volumes=(
            Volume(name="v", empty_dir=EmptyDirVolumeSource()),
            Volume(name="cm", config_map=ConfigMapVolumeSource(name="cm")),
            Volume(
                name="claim",
                persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="x", read_only=True),
            ),
        ),
    )
    assert mounts(given, config, v="/host/v", cm="/host/cm", claim="/host/claim") == [
        Mount(container_path="/v", host_path="/host/v"),
        Mount(container_path="/relative", host_path="/host/v", readonly=True),
        Mount(container_path="/i", image=ImageSpec(image="sha256:1"), image_sub_path="etc", readonly=True),
        # What the kubelet projects, and a claim that is read-only, are read-only whatever the mount says.
        Mount(container_path="/cm", host_path="/host/cm", readonly=True),
        Mount(container_path="/claim", host_path="/host/claim", readonly=True),
        Mount(container_path="/p", host_path="/host/v", propagation=MountPropagation.PROPAGATION_HOST_TO_CONTAINER),
        Mount(container_path="/q", host_path="/host/v", propagation=MountPropagation.PROPAGATION_BIDIRECTIONAL),
    ]


@pytest.mark.parametrize(
    ("mount", "supported", "recursive"),
    [
        (VolumeMount(name="v", mount_path="/v", read_only=True), True, False),
        (VolumeMount(name="v", mount_path="/v", read_only=True, recursive_read_only="Disabled"), True, False),
        (VolumeMount(name="v", mount_path="/v", read_only=True, recursive_read_only="IfPossible"), True, True),
        (VolumeMount(name="v", mount_path="/v", read_only=True, recursive_read_only="IfPossible"), False, False),
        (VolumeMount(name="v", mount_path="/v", read_only=True, recursive_read_only="Enabled"), True, True),
    ],
)
def test_recursive_read_only(config: KubeletConfig, mount: VolumeMount, supported: bool, recursive: bool) -> None:
    (found,) = mounts(mounting(mount), config, supported=supported, v="/host/v")
    assert found.recursive_read_only is recursive


@pytest.mark.parametrize(
    ("mount", "supported", "message"),
    [
        (VolumeMount(name="x", mount_path="/v"), True, 'cannot find volume "x" to mount into container "c"'),
        (
            VolumeMount(name="v", mount_path="/v", recursive_read_only="Enabled"),
            True,
            'volume "v" requested recursive read-only mode, but it is not read-only',
        ),
        (
            VolumeMount(
                name="v",
                mount_path="/v",
                read_only=True,
                recursive_read_only="Enabled",
                mount_propagation="HostToContainer",
            ),
            True,
            'volume "v" requested recursive read-only mode, but it is not compatible with propagation '
            '"HostToContainer"',
        ),
        (
            VolumeMount(name="v", mount_path="/v", read_only=True, recursive_read_only="Enabled"),
            False,
            'volume "v" requested recursive read-only mode, but it is not supported by the runtime',
        ),
        (
            VolumeMount(name="v", mount_path="/v", mount_propagation="Sideways"),
            True,
            'invalid MountPropagation mode: "Sideways"',
        ),
        (
            VolumeMount(name="v", mount_path="/v", sub_path="/abs"),
            True,
            "error SubPath `/abs` must not be an absolute path",
        ),
        (
            VolumeMount(name="v", mount_path="/v", sub_path="a/../b"),
            True,
            "unable to provision SubPath `a/../b`: must not contain '..'",
        ),
        (VolumeMount(name="v", mount_path="/v", sub_path_expr="$(B)/$(A)"), True, "missing value for A"),
        (
            VolumeMount(name="v", mount_path="/v", sub_path_expr="$(UP)"),
            True,
            "unable to provision SubPath `../../etc`: must not contain '..'",
        ),
        (
            VolumeMount(name="v", mount_path="/v", sub_path="x"),
            True,
            'failed to prepare subPath for volumeMount "v" of container "c"',
        ),
    ],
)
def test_mounts_that_cannot_be(config: KubeletConfig, mount: VolumeMount, supported: bool, message: str) -> None:
    with pytest.raises(ContainerConfigError) as failure:
        mounts(mounting(mount), config, supported=supported, env={"B": "b", "UP": "../../etc"}, v="/there/is/no/such")
    assert failure.value.message == message
