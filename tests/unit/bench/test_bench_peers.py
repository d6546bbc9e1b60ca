from __future__ import annotations

import pytest

from podlite.bench import peers
from podlite.bench.peers import Context, PeerMissingError
from podlite.bench.peers.oci import bundle_config
from podlite.bench.plan import SCENARIOS
from podlite.errors import UsageError
from podlite.runtime.layout import Layout


def context(tmp_path) -> Context:
    return Context(directory=str(tmp_path), layout=Layout())


def test_every_peer_has_a_module_that_says_what_is_missing(tmp_path) -> None:
    for name in peers.NAMES:
        with pytest.raises(PeerMissingError) as caught:
            peers.find(f"{name}:/no/such/thing", context(tmp_path))
        assert "/no/such/thing" in caught.value.message


def test_an_unknown_peer_is_a_mistake(tmp_path) -> None:
    with pytest.raises(UsageError):
        peers.find("docker", context(tmp_path))


def test_peers_have_work_in_known_scenarios(tmp_path) -> None:
    found = [peers.find(f"{name}:/bin/true", context(tmp_path)) for name in ("ip", "unshare", "runc", "crun", "bwrap")]
    for peer in found:
        assert {scenario for scenario, _ in peer.work} <= set(SCENARIOS)
        assert peer.note.startswith(peer.impl)


@pytest.mark.parametrize("host_network", [False, True])
def test_a_bundle_is_what_the_runtime_specification_asks_for(host_network: bool) -> None:
    # https://github.com/opencontainers/runtime-spec/blob/main/config.md, "REQUIRED", and config-linux.md.
    config = bundle_config(["/bin/true"], host_network=host_network)
    assert config["ociVersion"].startswith("1.")
    assert config["process"]["cwd"].startswith("/")
    assert config["process"]["args"] == ["/bin/true"]
    assert set(config["process"]["user"]) >= {"uid", "gid"}
    namespaces = {each["type"] for each in config["linux"]["namespaces"]}
    assert ("network" in namespaces) is not host_network
    assert namespaces >= {"pid", "ipc", "uts", "mount"}
    assert all(each["destination"].startswith("/") for each in config["mounts"])
    # A new sysfs can only be mounted by the owner of the network namespace (config-linux.md, Default Filesystems).
    assert ("/sys" in {each["destination"] for each in config["mounts"]}) is not host_network
