"""User namespaces: who gets which ids, and that nobody gets them twice.

KEP-127: 65536 ids for each pod, beginning at a multiple of that, never the first ones; pkg/kubelet/userns for the
file, {"uidMappings":[{"hostId":…,"containerId":0,"length":65536}],"gidMappings":…}.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod, PodSpec
from podlite.cri.types import IDMapping, NamespaceMode, UserNamespace
from podlite.kubelet import userns
from podlite.kubelet.security import pod_user_namespace
from podlite.kubelet.types import KubeletConfig, KubeletError
from podlite.kubelet.userns import user_namespace


@pytest.fixture
def sub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    files = (tmp_path / "subuid", tmp_path / "subgid")
    monkeypatch.setattr(userns, "_SUBIDS", tuple(map(str, files)))
    return files


@pytest.fixture
def config(tmp_path: Path, sub_ids: tuple[Path, Path]) -> KubeletConfig:
    return KubeletConfig(state_dir=str(tmp_path / "state"))


def pod(uid: str, host_users: bool | None = False) -> Pod:
    return Pod(metadata=ObjectMeta(name="p", uid=uid), spec=PodSpec(host_users=host_users))


def first(found: UserNamespace) -> int:
    assert found.mode is NamespaceMode.POD
    assert found.uids == found.gids
    assert found.uids == [IDMapping(host_id=found.uids[0].host_id, container_id=0, length=65536)]
    return found.uids[0].host_id


@pytest.mark.parametrize("host_users", [None, True])
def test_most_pods_have_the_hosts_users(config: KubeletConfig, host_users: bool | None) -> None:
    assert pod_user_namespace(pod("u", host_users), config) == UserNamespace(mode=NamespaceMode.NODE)
    assert not Path(config.state_dir).exists()


def test_every_pod_gets_its_own_and_keeps_it(config: KubeletConfig) -> None:
    assert first(user_namespace(pod("a"), config)) == 65536
    assert first(user_namespace(pod("b"), config)) == 131072
    # Another process that knows nothing but the directory.
    assert first(user_namespace(pod("a"), config)) == 65536
    record = json.loads((Path(config.state_dir) / "pods/b/userns").read_text())
    mapping = [{"hostId": 131072, "containerId": 0, "length": 65536}]
    assert record == {"uidMappings": mapping, "gidMappings": mapping}
    (Path(config.state_dir) / "pods/a/userns").unlink()
    assert first(user_namespace(pod("c"), config)) == 65536


def test_ids_of_other_users_are_left_alone(config: KubeletConfig, sub_ids: tuple[Path, Path]) -> None:
    sub_ids[0].write_text("alice:100000:65536\n")
    sub_ids[1].write_text("bob:165536:100000\n")
    # 65536 to 131071 overlaps alice's, 131072 to 327679 alice's and bob's.
    assert first(user_namespace(pod("a"), config)) == 327680


def test_a_range_of_our_own(config: KubeletConfig, sub_ids: tuple[Path, Path]) -> None:
    for file in sub_ids:
        file.write_text("alice:65536:65536\npodlite:655360:131072\n")
    assert first(user_namespace(pod("a"), config)) == 655360
    assert first(user_namespace(pod("b"), config)) == 720896
    with pytest.raises(KubeletError) as failure:
        user_namespace(pod("c"), config)
    assert failure.value.message == ("create user namespace: could not find an empty slot to allocate a user namespace")
    # It must be in both files.
    sub_ids[1].write_text("podlite:131072:131072\n")
    assert first(user_namespace(pod("d"), config)) == 131072


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"uidMappings":[],"gidMappings":[]}',
        '{"uidMappings":[{"hostId":0,"containerId":0,"length":65536}],'
        '"gidMappings":[{"hostId":0,"containerId":0,"length":65536}]}',
    ],
)
def test_a_broken_record_is_not_used(config: KubeletConfig, text: str) -> None:
    file = Path(config.state_dir) / "pods/a/userns"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(KubeletError, match="user namespace: invalid"):
        user_namespace(pod("a"), config)
    # It is no concern of others.
    assert first(user_namespace(pod("b"), config)) == 65536
