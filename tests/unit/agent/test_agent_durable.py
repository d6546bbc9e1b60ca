"""What was handed to the agent, on disk."""

from __future__ import annotations

from pathlib import Path

from podlite.agent.durable import DurableStore
from podlite.api.config import ConfigMap
from podlite.api.decode import from_builtins
from podlite.api.pod import Pod
from tests.support.agents import manifest


def test_what_a_write_that_was_cut_short_has_left_goes(tmp_path: Path) -> None:
    store = DurableStore(str(tmp_path))
    store.tidy()  # nothing is there yet
    pod = from_builtins(manifest("web"), Pod)
    pod.metadata.uid = "8a6b"
    store.put_pod(pod)
    store.put_object(from_builtins({"kind": "ConfigMap", "metadata": {"name": "settings"}}, ConfigMap))
    half = [tmp_path / "agent/pods/.9c2d.json", tmp_path / "agent/configmaps/.default_other.json"]
    for each in half:
        each.write_text('{"kind": "Po')
    store.tidy()
    assert not any(each.exists() for each in half)
    assert [each.metadata.name for each in store.pods()] == ["web"]
    assert [each.metadata.name for each in store.objects()] == ["settings"]
