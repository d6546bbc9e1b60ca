"""`podlite exec` and `podlite nsenter`: with pipes and with a real terminal, from another terminal than run's."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from tests.support.cli import HOST_IMAGE, Podlite, pod

pytestmark = [pytest.mark.root]

IDLE = pod("trap 'exit 0' TERM; while :; do sleep 0.1; done")


@pytest.fixture
def running(podlite: Podlite) -> Podlite:
    """With the pod `demo` running."""
    podlite.run_in_background(IDLE)
    return podlite


def test_streams_and_exit_code(running: Podlite) -> None:
    done = running("exec", "demo", "--", "sh", "-c", "hostname; echo oops >&2; exit 7")
    assert (done.status, done.out, done.err) == (7, "demo\n", "oops\n")


def test_options_of_the_command_are_its_own(running: Podlite) -> None:
    assert running("exec", "demo", "echo", "-n", "-c", "x").out == "-c x"
    assert running("exec", "-c", "main", "demo", "id", "-u").out == "0\n"


def test_standard_input(running: Podlite) -> None:
    data = bytes(range(256)) * 4096
    done = running("exec", "-i", "demo", "--", "cat", stdin=data)
    assert (done.status, done.raw) == (0, data)
    # Without -i it is empty, whatever there is.
    assert running("exec", "demo", "--", "cat", stdin=b"not read").out == ""


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["no-such-command"], 127, "executable file not found in $PATH"),
        (["/no/such/file"], 127, "no such file or directory"),
        (["/etc/passwd"], 126, "permission denied"),
    ],
)
def test_what_cannot_be_executed(running: Podlite, command: list[str], status: int, says: str) -> None:
    done = running("exec", "demo", "--", *command)
    assert done.status == status, done
    assert says in done.err
    assert "Traceback" not in done.err


def test_what_podlite_cannot_do(running: Podlite) -> None:
    assert running("exec", "demo").status == 2
    assert running("exec", "nobody", "--", "true").status == 125
    done = running("exec", "demo", "-c", "other", "--", "true")
    assert done.status == 125
    assert done.err == "podlite: container other is not valid for pod demo out of: main\n"


def test_the_first_container_is_meant(podlite: Podlite) -> None:
    second = f'- name: second\n  image: {HOST_IMAGE}\n  command: ["sleep", "1000"]'
    text = pod("exec sleep 1000") + "".join(f"  {line}\n" for line in second.splitlines())
    podlite.run_in_background(text, says="second started")
    done = podlite("exec", "demo", "--", "true")
    assert (done.status, done.err) == (0, 'Defaulted container "main" out of: main, second\n')
    assert podlite("exec", "-q", "demo", "--", "true").err == ""


def test_a_signal_goes_to_the_command(running: Podlite) -> None:
    script = "trap 'echo got it; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    command = running.start("exec", "demo", "--", "sh", "-c", script)
    command.until_out("ready")
    command.signal(signal.SIGINT)
    done = command.wait()
    assert (done.status, done.out) == (5, "ready\ngot it\n")


def test_the_command_ends_with_its_client(running: Podlite) -> None:
    command = running.start("exec", "demo", "--", "sh", "-c", "echo ready; exec sleep 4321")
    command.until_out("ready")
    command.signal(signal.SIGKILL)
    command.process.wait()
    deadline = time.monotonic() + 60
    while "sleep 4321" in running("exec", "demo", "--", "sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '").out:
        assert time.monotonic() < deadline


def test_killed_by_a_signal(running: Podlite) -> None:
    assert running("exec", "demo", "--", "sh", "-c", "kill -KILL $$").status == 137


# --- with a terminal ---------------------------------------------------------------------------


def test_a_terminal(running: Podlite) -> None:
    """The command has a terminal of the container's own, of our size, with job control; ours is raw meanwhile."""
    with running.terminal("exec", "-it", "demo", "--", "sh", columns=101, lines=33) as terminal:
        terminal.until("# ")
        terminal.type("tty; stty size; echo $TERM\r")
        terminal.until("33 101")
        terminal.until("xterm")
        assert "/dev/pts/0" in terminal.seen
        terminal.resize(77, 22)
        # The size arrives by SIGWINCH, through podlite: asked for until it is there.
        terminal.type("until [ \"$(stty size)\" = '22 77' ]; do sleep 0.05; done; echo res''ized\r")
        terminal.until("resized")
        # ^C ends what runs in there, not us: it is typed, and the terminal over there knows what it means.
        # Not before that has the terminal: the shell would get the signal, and ignore it.
        terminal.type("sh -c 'echo in fore\"\"ground; exec sleep 1000'\r")
        terminal.until("in foreground")
        terminal.type("\x03")
        terminal.type("echo interr''upted $?\r")
        terminal.until("interrupted 130")
        terminal.type("exit 9\r")
        assert terminal.wait() == 9
        assert terminal.attributes() == terminal.before, "our terminal is as it was"


def test_the_end_of_input_on_a_terminal(running: Podlite) -> None:
    with running.terminal("exec", "-it", "demo", "--", "cat") as terminal:
        terminal.type("hello\r")
        terminal.until("hello\nhello\n")
        terminal.type("\x04")
        assert terminal.wait() == 0


def test_a_terminal_that_hangs_up_ends_the_command(running: Podlite) -> None:
    with running.terminal("exec", "-it", "demo", "--", "sh", "-c", "echo ready; exec sleep 4322") as terminal:
        terminal.until("ready")
    deadline = time.monotonic() + 60
    while "sleep 4322" in running("exec", "demo", "--", "sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '").out:
        assert time.monotonic() < deadline


def test_t_without_a_terminal_of_our_own(running: Podlite) -> None:
    done = running("exec", "-it", "demo", "--", "echo", "hello", stdin=b"x")
    assert (done.status, done.out) == (0, "hello\n")
    assert "Unable to use a TTY - input is not a terminal or the right kind of file" in done.err


# --- nsenter -----------------------------------------------------------------------------------


def test_nsenter(running: Podlite) -> None:
    """The host's program in the pod's namespaces: its network and host name, the host's files."""
    done = running("nsenter", "demo", "--", "sh", "-c", "hostname; ip -br link; echo $PODLITE_RUN_DIR; exit 6")
    assert done.status == 6, done
    assert done.out.startswith("demo\nlo ")
    assert "eth0@" in done.out
    assert running.layout.run_dir in done.out, "the environment is ours"
    only = running("nsenter", "demo", "--uts", "--", "sh", "-c", "hostname; ip -br link")
    assert only.out.startswith("demo\n")
    assert "eth0@" not in only.out


def test_nsenter_the_container(running: Podlite) -> None:
    with open(f"{running.directory}/mark", "w") as file:
        file.write("the host's")
    running("exec", "demo", "--", "sh", "-c", "echo the container >/mark")
    assert running("nsenter", "demo", "--mnt", "--", "cat", "/mark").out == "the container\n"
    listed = running("nsenter", "demo", "--mnt", "--pid", "--", "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline")
    assert listed.out.startswith("/bin/sh -c trap")
    all_of_them = running("nsenter", "demo", "--all", "--", "sh", "-c", "cat /mark; hostname")
    assert (all_of_them.status, all_of_them.out) == (0, "the container\ndemo\n"), all_of_them


def test_nsenter_finds_no_program(running: Podlite) -> None:
    done = running("nsenter", "demo", "--", "no-such-command")
    assert done.status == 127, done
    assert done.err == "podlite: no-such-command is neither on the host nor in the container\n"


def test_the_pins_are_for_everybodys_tools(running: Podlite) -> None:
    """`ip netns` and nsenter(1) work on a pod's namespace."""
    path = running("inspect", "--record", "demo").json["sandboxes"][0]["record"]["netns"]
    assert os.path.basename(path).startswith("cni-")
    shown = subprocess.run(
        ["nsenter", f"--net={path}", "ip", "-br", "link"], capture_output=True, text=True, check=True
    )
    assert "eth0@" in shown.stdout
