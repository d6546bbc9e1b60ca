"""What is measured, decided before anything runs: the cases, and in which order the rounds take them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from podlite.errors import UsageError

# The ladder, lowest rung first: what each one makes and takes back.
SCENARIOS = {
    "floor": "a tight unshare + bind-mount + restore loop and its unmount, in threads, nothing else",
    "netns": "podlite's namespace layer: a pinned network namespace, by way of the namespace threads",
    "sandbox": "a pod sandbox: record, network namespace, network, shim",
    "pod": "a one-shot pod, from the object to the exited container; torn down until nothing is left",
    "exec": "a process in a running container: until it runs; until its end is known",
    "restart": "a container in a ready sandbox: created and started; killed and removed",
}
# Those for which other sandboxes (or pods) can be kept alive meanwhile, and those that a warm pool serves.
POOLED = ("sandbox", "pod")
PODLITE = "podlite"
# How the network of a sandbox differs from what --network says.
HOST_NETWORK = "hostNetwork"
SAME_CNI = "cni"

# Open loop: how many operations may be under way at once. More arrivals wait, and their waiting is counted.
OPEN_LOOP_WORKERS = 64


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is measured. `mode` is `closed` or `open`; `rate` is arrivals per second, 0 for closed."""

    scenario: str
    impl: str = PODLITE
    variant: str = ""
    concurrency: int = 1
    rate: float = 0.0
    live: int = 0
    pool: int = 0

    @property
    def name(self) -> str:
        """The scenario with its variant: `sandbox`, `sandbox (hostNetwork)`."""
        return f"{self.scenario} ({self.variant})" if self.variant else self.scenario

    @property
    def mode(self) -> str:
        return "open" if self.rate else "closed"

    @property
    def load(self) -> str:
        """`c4` or `100/s`, for tables."""
        return f"{self.rate:g}/s" if self.rate else f"c{self.concurrency}"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says. With `duration` (seconds for each case, in all) `count` is not looked at."""

    scenarios: tuple[str, ...]
    count: int = 200
    duration: float = 0.0
    concurrency: tuple[int, ...] = (1,)
    rate: float = 0.0
    live: tuple[int, ...] = (0,)
    pool: int = 0
    network: str = "builtin"
    peers: tuple[str, ...] = ()
    rounds: int = 5
    warm_up: int = 10
    # Seconds.
    rest: float = 0.0
    # The image that containers are made of: podlite's, and that of a CRI peer.
    peer_image: str = ""


class PeerPart(msgspec.Struct, frozen=True, kw_only=True):
    """A peer that was found: its name in the report, and the (scenario, variant) pairs that it has work for."""

    impl: str
    work: tuple[tuple[str, str], ...]


def check(settings: Settings) -> None:
    """Raises UsageError for what cannot be measured."""
    for name in settings.scenarios:
        if name not in SCENARIOS:
            raise UsageError(f"there is no scenario {name!r}", hint=f"there are {', '.join(SCENARIOS)}")
    for what, values, least in (
        ("--count", (settings.count,), 1),
        ("--concurrency", settings.concurrency, 1),
        ("--live", settings.live, 0),
        ("--rounds", (settings.rounds,), 1),
        ("--warm-pool", (settings.pool,), 0),
    ):
        if not values or min(values) < least:
            raise UsageError(f"{what} must be {least} or more")
    for option, value in (("--duration", settings.duration), ("--rate", settings.rate), ("--rest", settings.rest)):
        if not 0 <= value < math.inf:
            raise UsageError(f"{option} must be more than 0")
    if settings.pool and not set(settings.scenarios) & set(POOLED):
        raise UsageError("--warm-pool is a pool of sandboxes", hint=f"it goes with {' and '.join(POOLED)}")


def cases(settings: Settings, peers: Sequence[PeerPart] = ()) -> list[Case]:
    """Every case, podlite's first, in the order of the scenarios on the command line."""
    found: list[Case] = []
    for scenario in settings.scenarios:
        work = [(PODLITE, "")]
        for peer in peers:
            for each, variant in peer.work:
                if each != scenario:
                    continue
                # Like with like: a peer's variant has podlite's own beside it.
                if variant and (PODLITE, variant) not in work:
                    work.append((PODLITE, variant))
                work.append((peer.impl, variant))
        for live in settings.live:
            for concurrency in (OPEN_LOOP_WORKERS,) if settings.rate else settings.concurrency:
                for impl, variant in work:
                    pooled = impl == PODLITE and not variant and scenario in POOLED
                    found.append(
                        Case(
                            scenario=scenario,
                            impl=impl,
                            variant=variant,
                            concurrency=concurrency,
                            rate=settings.rate,
                            live=live if impl == PODLITE else 0,
                            pool=settings.pool if pooled else 0,
                        )
                    )
    return list(dict.fromkeys(found))


def in_round(cases: Sequence[Case], round: int) -> list[Case]:
    """The order of a round. Every other one runs backwards: so what changes steadily meanwhile (a machine that warms
    up, a disk that fills) favours nobody, and what many live pods cost to make is paid once in two rounds."""
    return list(cases) if round % 2 == 0 else list(reversed(cases))


def share(total: int, rounds: int, round: int) -> int:
    """How many of `total` operations belong to this round; at least one, and all of them in all."""
    return max(1, total * (round + 1) // rounds - total * round // rounds)


def arrivals(rate: float, count: int, duration: float) -> list[float]:
    """The schedule of an open loop: seconds from its begin, one every 1/rate, `count` or for `duration`."""
    number = count if not duration else max(1, int(duration * rate))
    return [index / rate for index in range(number)]
