"""From requests and limits to cgroups.

Expected values: Documentation/scheduler and pkg/kubelet/cm/helpers_linux.go for shares and quotas, KEP-753 for the
sums with sidecars, pkg/kubelet/qos/policy.go for OOM scores (whose comment has the 10 % example).
"""

from __future__ import annotations

from typing import Any

import pytest

from podlite.api.container import Container, ResourceRequirements
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod, PodSpec
from podlite.cri.types import LinuxContainerResources
from podlite.kubelet import node
from podlite.kubelet.qos import oom_score_adj
from podlite.kubelet.resources import (
    container_resources,
    cpu_quota,
    cpu_shares,
    hugepage_size,
    pod_limits,
    pod_requests,
    pod_resources,
    sandbox_resources,
)
from podlite.kubelet.types import KubeletConfig

MEBI = 1 << 20
NANO = 10**9
CONFIG = KubeletConfig(memory_bytes=4096 * MEBI, cpu_count=4)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with cgroup v1 and no huge pages, whatever this one has."""
    monkeypatch.setattr(node, "_cgroup_v2", False)
    monkeypatch.setattr(node, "_huge_pages", {2 * MEBI: 0})


def container(name: str = "c", restart: str | None = None, **resources: dict[str, str]) -> Container:
    """Requests default to limits, as the API server defaults them."""
    limits = resources.get("limits", {})
    requests = {**limits, **resources.get("requests", {})}
    return Container(
        name=name, restart_policy=restart, resources=ResourceRequirements(limits=limits, requests=requests)
    )


def pod(*containers: Container, init: tuple[Container, ...] = (), **spec: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u"),
        spec=PodSpec(containers=list(containers), init_containers=list(init), **spec),
    )


@pytest.mark.parametrize(
    ("milli", "shares"),
    [(0, 2), (1, 2), (2, 2), (10, 10), (100, 102), (500, 512), (1000, 1024), (2500, 2560), (10**9, 262144)],
)
def test_shares(milli: int, shares: int) -> None:
    assert cpu_shares(milli) == shares


@pytest.mark.parametrize(
    ("milli", "period", "quota"),
    [
        (0, 100_000, 0),
        # At least a millisecond.
        (1, 100_000, 1000),
        (9, 100_000, 1000),
        (10, 100_000, 1000),
        (200, 100_000, 20_000),
        (500, 100_000, 50_000),
        (1500, 100_000, 150_000),
        (1000, 10_000, 10_000),
    ],
)
def test_quota(milli: int, period: int, quota: int) -> None:
    assert cpu_quota(milli, period) == quota


def test_huge_page_names() -> None:
    assert hugepage_size("hugepages-2Mi") == 2 * MEBI
    assert hugepage_size("hugepages-1Gi") == 1024 * MEBI
    assert hugepage_size("memory") == 0


def test_a_container_without_resources() -> None:
    plain = container()
    assert container_resources(pod(plain), plain, CONFIG) == LinuxContainerResources(cpu_shares=2, oom_score_adj=1000)


def test_a_burstable_container() -> None:
    burstable = container(requests={"cpu": "250m", "memory": "64Mi"}, limits={"cpu": "500m", "memory": "128Mi"})
    assert container_resources(pod(burstable), burstable, CONFIG) == LinuxContainerResources(
        cpu_shares=256,
        cpu_period=100_000,
        cpu_quota=50_000,
        memory_limit_in_bytes=128 * MEBI,
        # No swap beyond the limit (NoSwap on cgroup v1).
        memory_swap_limit_in_bytes=128 * MEBI,
        # 1000 - 1000 × 64 / 4096, the quotient cut.
        oom_score_adj=985,
    )


def test_a_request_that_is_not_stated_is_the_limit() -> None:
    limited = Container(name="c", resources=ResourceRequirements(limits={"cpu": "2"}))
    assert container_resources(pod(limited), limited, CONFIG).cpu_shares == 2048


def test_cgroup_v2_kills_whole_containers_and_has_no_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_cgroup_v2", True)
    limited = container(limits={"memory": "1Mi"})
    found = container_resources(pod(limited), limited, CONFIG)
    assert found.unified == {"memory.oom.group": "1", "memory.swap.max": "0"}
    assert found.memory_swap_limit_in_bytes == 0


def test_huge_pages_are_limited_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_huge_pages", {2 * MEBI: 8, 1024 * MEBI: 0})
    limited = container(limits={"hugepages-2Mi": "4Mi", "memory": "1Mi"})
    found = container_resources(pod(limited), limited, CONFIG).hugepage_limits
    assert [(each.page_size, each.limit) for each in found] == [("2MB", 4 * MEBI)]
    plain = container()
    found = container_resources(pod(plain), plain, CONFIG).hugepage_limits
    assert [(each.page_size, each.limit) for each in found] == [("2MB", 0)]


def test_cfs_quota_can_be_turned_off() -> None:
    limited = container(limits={"cpu": "1", "memory": "1Mi"})
    config = KubeletConfig(memory_bytes=MEBI, cpu_cfs_quota=False)
    found = container_resources(pod(limited), limited, config)
    assert (found.cpu_quota, found.cpu_period, found.cpu_shares) == (0, 0, 1024)
    assert pod_resources(pod(limited), config).cpu_quota == -1


# --- OOM scores -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "index", "score"),
    [
        (pod(container(limits={"cpu": "1", "memory": "1Gi"})), 0, -997),
        (pod(container()), 0, 1000),
        # "A container requesting for 10% of a system's memory will have an OOM score adjust of 900."
        (pod(container(requests={"memory": "100Mi"})), 0, 900),
        # Burstable pods stay between 3 and 999.
        (pod(container(requests={"memory": "1000Mi"})), 0, 3),
        (pod(container(requests={"cpu": "1"})), 0, 999),
        (pod(container(requests={"memory": "1"})), 0, 999),
        (pod(container(), priority_class_name="system-node-critical"), 0, -997),
    ],
)
def test_oom_scores(given: Pod, index: int, score: int) -> None:
    assert oom_score_adj(given, given.spec.containers[index], 1000 * MEBI) == score


def test_a_sidecar_is_killed_no_sooner_than_the_app() -> None:
    sidecar = container("s", restart="Always")
    given = pod(
        container("a", requests={"memory": "100Mi"}),
        container("b", requests={"memory": "200Mi"}),
        init=(sidecar,),
    )
    assert oom_score_adj(given, sidecar, 1000 * MEBI) == 900
    larger = container("s", restart="Always", requests={"memory": "300Mi"})
    assert oom_score_adj(pod(container("a", requests={"memory": "100Mi"}), init=(larger,)), larger, 1000 * MEBI) == 700


# --- pods -------------------------------------------------------------------------------------


def cpus(amounts: dict[str, int]) -> float:
    return amounts["cpu"] / NANO


def test_init_containers_count_by_the_greediest() -> None:
    given = pod(
        container("a", requests={"cpu": "1"}),
        container("b", requests={"cpu": "2"}),
        init=(container("i", requests={"cpu": "2"}), container("j", requests={"cpu": "5"})),
    )
    assert cpus(pod_requests(given)) == 5
    assert cpus(pod_requests(pod(*given.spec.containers, init=(given.spec.init_containers[0],)))) == 3


def test_sidecars_add_to_what_comes_after_them() -> None:
    # KEP-753: max(apps + sidecars, each init container + the sidecars that started before it).
    given = pod(
        container("app", requests={"cpu": "3"}),
        init=(
            container("i1", requests={"cpu": "1"}),
            container("s1", restart="Always", requests={"cpu": "2"}),
            container("i2", requests={"cpu": "10"}),
            container("s2", restart="Always", requests={"cpu": "4"}),
        ),
    )
    assert cpus(pod_requests(given)) == 12
    smaller = pod(*given.spec.containers, init=tuple(each for each in given.spec.init_containers if each.name != "i2"))
    assert cpus(pod_requests(smaller)) == 9


def test_overhead_adds_to_requests_and_to_limits_that_there_are() -> None:
    given = pod(container(requests={"cpu": "1"}, limits={"memory": "1Gi"}), overhead={"cpu": "250m", "memory": "64Mi"})
    assert pod_requests(given) == {"cpu": 1_250_000_000, "memory": (1024 + 64) * MEBI * NANO}
    assert pod_limits(given) == {"memory": (1024 + 64) * MEBI * NANO}
    assert pod_requests(given, overhead=False)["cpu"] == NANO


def test_the_pods_own_cgroup() -> None:
    assert pod_resources(pod(container()), CONFIG) == LinuxContainerResources(cpu_shares=2)
    guaranteed = pod(
        container("a", limits={"cpu": "1", "memory": "64Mi"}), container("b", limits={"cpu": "500m", "memory": "32Mi"})
    )
    assert pod_resources(guaranteed, CONFIG) == LinuxContainerResources(
        cpu_shares=1536, cpu_period=100_000, cpu_quota=150_000, memory_limit_in_bytes=96 * MEBI
    )
    # One container without a limit may use what it likes, so the pod may as well.
    burstable = pod(container("a", limits={"cpu": "1", "memory": "64Mi"}), container("b", limits={"memory": "32Mi"}))
    assert pod_resources(burstable, CONFIG) == LinuxContainerResources(cpu_shares=1024, memory_limit_in_bytes=96 * MEBI)
    unlimited_init = pod(container("a", limits={"cpu": "1", "memory": "1Mi"}), init=(container("i"),))
    assert pod_resources(unlimited_init, CONFIG) == LinuxContainerResources(cpu_shares=1024)


def test_what_the_sandbox_is_told() -> None:
    assert sandbox_resources(pod(container()), CONFIG) == (
        LinuxContainerResources(cpu_shares=2),
        LinuxContainerResources(),
    )
    given = pod(container(limits={"cpu": "1", "memory": "64Mi"}), overhead={"cpu": "100m", "memory": "16Mi"})
    resources, overhead = sandbox_resources(given, CONFIG)
    assert resources == LinuxContainerResources(
        cpu_shares=1024, cpu_period=100_000, cpu_quota=100_000, memory_limit_in_bytes=64 * MEBI
    )
    assert overhead == LinuxContainerResources(
        cpu_shares=102, cpu_period=100_000, cpu_quota=10_000, memory_limit_in_bytes=16 * MEBI
    )
