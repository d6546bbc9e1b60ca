"""The peers: other programs on the same work, one module each, found by name.

A module has `find(argument, context) -> Peer`, which raises PeerMissingError, in a sentence, where the program or
what it needs is not there. `--vs NAME` finds the program on the PATH, `--vs NAME:/path` takes that one.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

import msgspec

from podlite.bench.plan import PeerPart
from podlite.bench.workload import PeerMissingError, Workload
from podlite.errors import UsageError
from podlite.runtime.layout import Layout

NAMES = {
    "ip": "ip netns add and del",
    "unshare": "unshare of util-linux",
    "cni": "the reference CNI plugins, executed by the CNI specification",
    "runc": "runc run and delete",
    "crun": "crun run and delete",
    "bwrap": "bubblewrap",
    "podman": "podman run",
    "cri": "any CRI endpoint: cri:unix:///run/containerd/containerd.sock",
}


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer may use: an empty directory of its own, podlite's directories, and whether podlite's own network
    can run the same conflist (`own_cni`, of `cni_conf_dir`). `image` is what a CRI peer makes containers of."""

    directory: str
    layout: Layout
    own_cni: bool = False
    cni_conf_dir: str = ""
    image: str = ""


class Peer(Protocol):
    """A peer that was found. `note` says in a line what it does and does not do on this work."""

    impl: str
    note: str
    # (scenario, variant) pairs.
    work: Sequence[tuple[str, str]]

    def open(self, scenario: str, variant: str) -> AbstractAsyncContextManager[Workload]:
        """The workload, for as long as the context lasts."""
        ...


def find(text: str, context: Context) -> Peer:
    """The peer that `--vs` names. Blocking. Raises UsageError for a name that is none, PeerMissingError."""
    name, _, argument = text.partition(":")
    if name not in NAMES:
        raise UsageError(f"there is no peer {name!r}", hint=f"there are {', '.join(NAMES)}")
    module = importlib.import_module(f"podlite.bench.peers.{name}")
    found: Peer = module.find(argument, context)
    return found


@asynccontextmanager
async def libraries(texts: Sequence[str]) -> AsyncIterator[None]:
    """What the peers' libraries keep as long as they are used (grpc: a thread, and its descriptors) is there from
    before anything is counted until after that: nobody's leak."""
    async with AsyncExitStack() as stack:
        for name in {text.partition(":")[0] for text in texts} & NAMES.keys():
            module = importlib.import_module(f"podlite.bench.peers.{name}")
            if hasattr(module, "library"):
                await stack.enter_async_context(module.library())
        yield


def part(peer: Peer) -> PeerPart:
    """What the plan needs to know of a peer. Pure."""
    return PeerPart(impl=peer.impl, work=tuple(peer.work))


__all__ = ["NAMES", "Context", "Peer", "PeerMissingError", "find", "libraries", "part"]
