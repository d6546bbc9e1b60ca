"""The store of ConfigMaps and Secrets: changes, immutability, and objects made of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from podlite.api.config import ConfigMap, Secret
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod, PodSpec
from podlite.api.volumes import (
    ConfigMapProjection,
    ConfigMapVolumeSource,
    ProjectedVolumeSource,
    SecretProjection,
    SecretVolumeSource,
    Volume,
    VolumeProjection,
)
from podlite.kubelet.objects import Objects, read_config_map, read_secret, refers_to
from podlite.kubelet.types import KubeletError


def config_map(name: str = "c", immutable: bool | None = None, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="ns"), data=data, immutable=immutable)


def test_watchers_hear_of_changes_only() -> None:
    objects = Objects([config_map(a="1")])
    heard: list[tuple[str, str, str]] = []
    stop = objects.watch(lambda *what: heard.append(what))
    objects.update([config_map(a="1")])
    assert heard == []
    objects.update([config_map(a="2"), Secret(metadata=ObjectMeta(name="s"))])
    objects.remove("ConfigMap", "ns", "c")
    objects.remove("ConfigMap", "ns", "c")
    assert heard == [("ConfigMap", "ns", "c"), ("Secret", "default", "s"), ("ConfigMap", "ns", "c")]
    assert objects.config_map("ns", "c") is None
    assert objects.secret("", "s") is not None
    stop()
    objects.update([config_map(a="3")])
    assert len(heard) == 3


def test_what_is_immutable_stays_so() -> None:
    # pkg/apis/core/validation: ValidateConfigMapUpdate.
    objects = Objects([config_map(a="1", immutable=True)])
    objects.update([config_map(a="1", immutable=True)])
    for changed, field in ((config_map(a="2", immutable=True), "data"), (config_map(a="1"), "immutable")):
        with pytest.raises(KubeletError) as failure:
            objects.update([changed])
        assert failure.value.message == (
            f'ConfigMap "c" is invalid: {field}: Forbidden: field is immutable when `immutable` is set'
        )
    found = objects.config_map("ns", "c")
    assert found is not None
    assert found.data == {"a": "1"}


def test_which_pods_show_an_object() -> None:
    def pod(volume: Volume) -> Pod:
        return Pod(spec=PodSpec(volumes=[volume]))

    def projected(**source: object) -> Volume:
        return Volume(name="v", projected=ProjectedVolumeSource(sources=[VolumeProjection(**source)]))  # type: ignore[arg-type]

    for volume, kind in (
        (Volume(name="v", config_map=ConfigMapVolumeSource(name="x")), "ConfigMap"),
        (Volume(name="v", secret=SecretVolumeSource(secret_name="x")), "Secret"),
        (projected(config_map=ConfigMapProjection(name="x")), "ConfigMap"),
        (projected(secret=SecretProjection(name="x")), "Secret"),
    ):
        other = "Secret" if kind == "ConfigMap" else "ConfigMap"
        assert refers_to(pod(volume), kind, "x")
        assert not refers_to(pod(volume), kind, "y")
        assert not refers_to(pod(volume), other, "x")


def test_objects_from_files(tmp_path: Path) -> None:
    # kubectl create configmap --from-file=DIRECTORY: regular files by their names; directories are left out.
    (tmp_path / "app.conf").write_text("a = ü\n")
    (tmp_path / "blob").write_bytes(b"\xff\0")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "deep").write_text("no")
    found = read_config_map("ns", "c", str(tmp_path))
    assert (found.metadata.namespace, found.metadata.name) == ("ns", "c")
    assert found.data == {"app.conf": "a = ü\n"}
    assert found.binary_data == {"blob": b"\xff\0"}
    secret = read_secret("ns", "s", str(tmp_path / "blob"))
    assert secret.data == {"blob": b"\xff\0"}
    assert secret.type == "Opaque"


def test_files_that_cannot_be_objects(tmp_path: Path) -> None:
    (tmp_path / "no key").write_text("x")
    with pytest.raises(KubeletError, match="cannot be a key"):
        read_config_map("ns", "c", str(tmp_path))
    with pytest.raises(KubeletError, match="No such file"):
        read_secret("ns", "s", str(tmp_path / "none"))
    (tmp_path / "big").write_bytes(b"x" * (1024 * 1024 + 1))
    with pytest.raises(KubeletError, match="cannot be read"):
        read_config_map("ns", "c", str(tmp_path / "big"))
