"""Work with a thread of its own."""

from __future__ import annotations

import threading

import pytest

from podlite.linux.own_thread import run_in_own_thread


def test_the_thread_is_another_and_ends() -> None:
    assert run_in_own_thread(threading.current_thread) not in [threading.current_thread(), *threading.enumerate()]


@pytest.mark.parametrize("error", [OSError(1, "no"), KeyboardInterrupt()])
def test_what_it_raises_is_raised_here(error: BaseException) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        run_in_own_thread(work)
    assert caught.value is error
