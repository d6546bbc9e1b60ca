"""The registry of steps: whose each span is."""

from __future__ import annotations

from podlite import steps


def test_a_span_of_a_sandbox_names_its_pod() -> None:
    """A network knows sandboxes only; after the sandbox is gone nothing of it is remembered."""
    seen: list[steps.Span] = []
    stop = steps.listen(seen.append)
    try:
        for name, ids in (
            ("network.address", {"sandbox_id": "s1"}),
            ("sandbox.record", {"sandbox_id": "s1", "pod": "default/a"}),
            ("network.setup", {"sandbox_id": "s1"}),
            ("sandbox.remove", {"sandbox_id": "s1", "pod": "default/a"}),
            ("network.teardown", {"sandbox_id": "s1"}),
        ):
            with steps.step(name, **ids):
                pass
    finally:
        stop()
    # Listeners hear all of the process, also what an earlier test's threads are still at.
    seen = [each for each in seen if each.ids.get("sandbox_id") == "s1"]
    assert [each.ids.get("pod") for each in seen] == [None, "default/a", "default/a", "default/a", None]
