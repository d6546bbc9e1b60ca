from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from podlite.runtime.labelled import Labelled

Labels = dict[str, str]
labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"))


def thing(labels: Labels) -> SimpleNamespace:
    return SimpleNamespace(config=SimpleNamespace(labels=labels))


@given(st.lists(st.tuples(st.sampled_from("12345"), labels, st.booleans()), max_size=30), labels)
def test_it_finds_what_a_look_at_every_one_finds(changes: list[tuple[str, Labels, bool]], wanted: Labels) -> None:
    things: Labelled[SimpleNamespace] = Labelled()
    plain: dict[str, SimpleNamespace] = {}
    for id, given_labels, remove in changes:
        if remove:
            assert things.pop(id, None) is plain.pop(id, None)
        else:
            plain.pop(id, None)
            plain[id] = things[id] = thing(given_labels)
    assert things == plain
    expected = [each for each in plain.values() if wanted.items() <= each.config.labels.items()]
    assert list(things.having(wanted)) == expected


def test_nothing_of_what_was_removed_stays() -> None:
    things: Labelled[SimpleNamespace] = Labelled()
    things["1"] = thing({"uid": "a"})
    things.pop("1", None)
    assert things._by_label == {}
    assert list(things.having({"uid": "a"})) == []
