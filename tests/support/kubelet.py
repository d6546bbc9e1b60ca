"""A kubelet on a runtime in memory and a clock that stands still, for tests of what happens when."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from podlite.api.events import Event
from podlite.api.pod import Pod
from podlite.kubelet.kubelet import Kubelet
from podlite.kubelet.types import KubeletConfig
from tests.support.clock import FakeClock, settle
from tests.support.fake_runtime import FakeImages, FakeRuntime, NoCgroups


class Bench:
    """All that a test needs: `kubelet`, `runtime`, `images`, `clock`."""

    def __init__(
        self, clock: FakeClock, runtime: FakeRuntime, images: FakeImages, tmp_path: Any, **config: Any
    ) -> None:
        self.clock = clock
        self.runtime = runtime
        self.images = images
        cgroups: Any = NoCgroups()
        self.kubelet = Kubelet(runtime, images, test_config(tmp_path, **config), clock=clock, cgroups=cgroups)

    async def run(self, pod: Pod, *objects: Any) -> str:
        """Adds the pod and lets it get as far as it gets without time passing; returns its UID."""
        added = await self.kubelet.add_pod(pod, objects)
        await settle()
        return added.metadata.uid

    def status(self, uid: str) -> Any:
        return self.kubelet.pod(uid).status

    def phase(self, uid: str) -> str:
        return self.kubelet.pod(uid).status.phase

    def container(self, uid: str, name: str) -> Any:
        status = self.kubelet.pod(uid).status
        every = (*status.init_container_statuses, *status.container_statuses, *status.ephemeral_container_statuses)
        return next(each for each in every if each.name == name)

    def condition(self, uid: str, type: str) -> Any:
        return next(each for each in self.kubelet.pod(uid).status.conditions if each.type == type)

    def events(self, reason: str = "") -> list[Event]:
        return [each for each in self.kubelet.events() if not reason or each.reason == reason]

    def told(self) -> list[str]:
        """The events as `reason message`, in the order in which they last happened."""
        return [f"{each.reason} {each.message}" for each in self.kubelet.events()]


def test_config(tmp_path: Any, **fields: Any) -> KubeletConfig:
    """A configuration whose directories are all in tmp_path."""
    resolv_conf = f"{tmp_path}/resolv.conf"
    if not os.path.exists(resolv_conf):
        with open(resolv_conf, "w", encoding="ascii") as file:
            file.write("nameserver 192.0.2.53\n")
    return KubeletConfig(
        node_name="node-1",
        host_ips=("192.0.2.1", "2001:db8::1"),
        run_dir=f"{tmp_path}/run",
        state_dir=f"{tmp_path}/state",
        log_dir=f"{tmp_path}/logs",
        resolv_conf=resolv_conf,
        memory_bytes=8 << 30,
        cpu_count=2,
        **fields,
    )


test_config.__test__ = False  # type: ignore[attr-defined]


@asynccontextmanager
async def a_bench(tmp_path: Any, *, evented: bool = True, **fields: Any) -> AsyncIterator[Bench]:
    clock = FakeClock()
    images = FakeImages(clock, "img:1", "img:2")
    async with FakeRuntime(clock, evented=evented) as runtime:
        bench = Bench(clock, runtime, images, tmp_path, **fields)
        async with bench.kubelet:
            yield bench
