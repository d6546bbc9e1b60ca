"""What comes out of task groups."""

from __future__ import annotations

from podlite.errors import first_error, only_error

ONE, TWO = ValueError("one"), KeyError("two")


def test_the_first_error_is_found_in_groups_of_groups() -> None:
    assert first_error(ONE) is ONE
    inner = ExceptionGroup("", [ONE, TWO])
    assert first_error(ExceptionGroup("", [ExceptionGroup("", [inner]), TWO])) is ONE


def test_an_error_that_is_alone_stays_what_it_is() -> None:
    assert only_error(ExceptionGroup("", [ONE])) is ONE
    both = ExceptionGroup("", [ONE, TWO])
    assert only_error(both) is both
