"""Exponential back-off, as k8s.io/client-go/util/flowcontrol/backoff_test.go has it."""

from __future__ import annotations

from msgspec import structs

from podlite.api.container import ResourceRequirements
from podlite.kubelet.backoff import BackOff, container_key, restarting_message
from tests.support.clock import FakeClock
from tests.support.pods import UID, a_pod, container

S = 1_000_000_000


def test_delays_double_up_to_the_longest() -> None:
    clock = FakeClock()
    back_off = BackOff(clock, 10, 300)
    delays = []
    for _ in range(7):
        back_off.next("a", clock.now_ns())
        delays.append(back_off.delay("a"))
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    assert back_off.delay("b") == 0


def test_an_initial_delay_beyond_the_longest() -> None:
    clock = FakeClock()
    back_off = BackOff(clock, 10, 5)
    back_off.next("a", clock.now_ns())
    assert back_off.delay("a") == 5


def test_until_when_since_an_event() -> None:
    clock = FakeClock()
    back_off = BackOff(clock, 10, 300)
    event = clock.now_ns()
    assert back_off.until_since_event("a", event) is None
    back_off.next("a", event)
    assert back_off.until_since_event("a", event) == event + 10 * S
    clock.tick(9.999)
    assert back_off.until_since_event("a", event) == event + 10 * S
    clock.tick(0.001)
    assert back_off.until_since_event("a", event) is None


def test_until_when_since_the_last_failure() -> None:
    clock = FakeClock()
    back_off = BackOff(clock, 10, 300)
    back_off.next("a", 0)
    begun = clock.now_ns()
    assert back_off.until_since_update("a") == begun + 10 * S
    clock.tick(10)
    assert back_off.until_since_update("a") is None
    back_off.next("a", clock.now_ns())
    assert back_off.until_since_update("a") == begun + 30 * S


def test_it_starts_over_after_a_long_time() -> None:
    clock = FakeClock()
    back_off = BackOff(clock, 10, 300, reset_after=600)
    for _ in range(4):
        back_off.next("a", clock.now_ns())
    updated = clock.now_ns()
    clock.tick(700)
    assert back_off.until_since_event("a", updated + 601 * S) is None
    assert back_off.until_since_event("a", updated + 599 * S + 100 * S) is None  # its delay is over
    back_off.next("a", updated + 601 * S)
    assert back_off.delay("a") == 10


def test_collecting_and_forgetting() -> None:
    clock = FakeClock()
    back_off = BackOff(clock, 10, 100)  # starts over after 200 s
    back_off.next("uid/a", clock.now_ns())
    clock.tick(150)
    back_off.next("uid/b", clock.now_ns())
    back_off.next("other/a", clock.now_ns())
    clock.tick(51)
    back_off.collect()
    assert [back_off.delay(each) for each in ("uid/a", "uid/b", "other/a")] == [0, 10, 10]
    back_off.forget("uid/")
    assert [back_off.delay(each) for each in ("uid/b", "other/a")] == [0, 10]


def test_what_may_cure_a_container_changes_its_key() -> None:
    pod = a_pod()
    one = container("c1")
    key = container_key(pod, one)
    assert key == container_key(pod, structs.replace(one, command=["other"]))
    assert key != container_key(pod, structs.replace(one, image="img:2"))
    assert key != container_key(pod, structs.replace(one, resources=ResourceRequirements(limits={"memory": "1Gi"})))
    assert key != container_key(a_pod(uid="another"), one)


def test_the_message() -> None:
    message = restarting_message(a_pod(), container("c1"), "2m40s")
    assert message == f"back-off 2m40s restarting failed container=c1 pod=web_default({UID})"
