"""`podlite netns` beside `ip netns`, which is the oracle: what one makes the other lists, and the reverse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2")

PODLITE = [sys.executable, "-m", "podlite", "netns"]
IP = ["ip", "netns"]


class Machine:
    """Mount and network namespaces of their own, with an empty /run/netns: the real one is everybody's."""

    def __init__(self) -> None:
        script = "mount -t tmpfs tmpfs /run && mkdir -p /run/netns && echo ready && exec sleep 1000"
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-ec", script], stdout=subprocess.PIPE, text=True
        )
        assert self.holder.stdout is not None and self.holder.stdout.readline() == "ready\n"

    def popen(self, command: list[str]) -> subprocess.Popen[str]:
        enter = ["nsenter", "--target", str(self.holder.pid), "--mount", "--net", f"--wd={os.getcwd()}"]
        return subprocess.Popen([*enter, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, command: list[str]) -> tuple[str, str, int]:
        process = self.popen(command)
        out, err = process.communicate(timeout=30)
        return out, err, process.returncode

    def ok(self, *command: str) -> str:
        out, err, code = self.run(list(command))
        assert code == 0, (command, err)
        return out

    def podlite(self, *words: str) -> str:
        return self.ok(*PODLITE, *words)

    def close(self) -> None:
        self.holder.kill()
        self.holder.communicate()


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    yield made
    made.close()


def said(err: str) -> str:
    """What an error says, without whose it is."""
    text = err.splitlines()[0] if err else ""
    return text.removeprefix("podlite: ").removeprefix("Error: ").rstrip(".")


# (what is there before, the command line); {P} is a process in the namespace a.
CASES = [
    ("", "list"),
    ("", "add x"),
    ("add a", "add a"),
    ("", "add .."),
    ("", "add a/b"),
    ("", "add"),
    ("add a;add b;set a 5", "list"),
    ("add a;add b;set a 5", "show"),
    ("add a;add b;set a 5;set b auto", "list-id"),
    ("add a;add b;set a 5", "list-id nsid 5"),
    ("add a;add b;set a 5", "list-id target-nsid 5"),
    ("add a;add b;set a 5", "list-id target-nsid 5 nsid 5"),
    ("add a", "set a 7"),
    ("add a;set a 7", "set a 8"),
    ("add a;add b;set a 7", "set b 7"),
    ("add a", "set a"),
    ("add a", "set a x"),
    ("add a", "set a -1"),
    ("", "set"),
    ("", "set zz 3"),
    ("", "delete zz"),
    ("add a", "del a"),
    ("add a", "delete a"),
    ("add a", "exec a cat /proc/net/dev"),
    ("add a", "exec a ls /sys/class/net"),
    ("add a", "exec a sh -c exit\\ 7"),
    ("add a", "exec a nonesuch"),
    ("add a", "exec a"),
    ("", "exec"),
    ("add a", "identify"),
    ("", "identify 999999999"),
    ("add a", "pids a"),
    ("", "pids zz"),
    ("", "attach"),
    ("", "attach x"),
]


@pytest.mark.parametrize(("before", "command"), CASES)
def test_the_same_words_have_the_same_answer(before: str, command: str) -> None:
    answers = []
    for program in (IP, PODLITE):
        machine = Machine()
        try:
            for line in filter(None, before.split(";")):
                machine.ok("ip", "netns", *line.split())
            words = command.replace("\\ ", "\0").split()
            out, err, code = machine.run([*program, *(word.replace("\0", " ") for word in words)])
            answers.append((out, said(err), code, machine.ok("ip", "netns", "list")))
        finally:
            machine.close()
    theirs, ours = answers
    # `ip` ends with 255 where an argument is wrong, which we have 1 for as for everything else.
    assert ours == (*theirs[:2], 1 if theirs[2] == 255 else theirs[2], theirs[3])


@pytest.mark.parametrize("command", ["list", "list-id", "list-id nsid 5", "list-id target-nsid 5 nsid 5"])
def test_json_is_the_same(machine: Machine, command: str) -> None:
    machine.ok("sh", "-ec", "ip netns add a; ip netns add b; ip netns add c; ip netns set a 5; ip netns set b auto")
    theirs = json.loads(machine.ok("ip", "-j", "netns", *command.split()))
    assert theirs
    assert json.loads(machine.podlite(*command.split(), "--json")) == theirs
    assert json.loads(machine.podlite("-j", *command.split())) == theirs


def test_what_one_makes_the_other_lists_enters_and_deletes(machine: Machine) -> None:
    machine.podlite("add", "ours")
    machine.ok("ip", "netns", "add", "theirs")
    assert machine.ok("ip", "netns", "list") == machine.podlite("list")
    assert machine.ok("ip", "netns", "exec", "ours", "ls", "/sys/class/net") == "lo\n"
    machine.ok("ip", "-n", "ours", "link", "set", "lo", "up")
    assert "UP" in machine.podlite("exec", "ours", "ip", "link", "show", "lo")
    machine.podlite("delete", "theirs")
    machine.ok("ip", "netns", "delete", "ours")
    assert machine.podlite("list") == machine.ok("ip", "netns", "list") == ""
    mounted = machine.ok("cat", "/proc/self/mountinfo")
    for name in ("ours", "theirs"):
        assert f"/run/netns/{name} " not in mounted, "no copy of a pin is left"


def test_an_existing_processs_namespace_gets_a_name(machine: Machine) -> None:
    process = machine.popen(["unshare", "--net", "sh", "-c", "readlink /proc/self/ns/net; exec sleep 1000"])
    assert process.stdout is not None
    wanted = process.stdout.readline()
    try:
        machine.podlite("attach", "found", str(process.pid))
        assert machine.ok("ip", "netns", "exec", "found", "readlink", "/proc/self/ns/net") == wanted
        for program in (IP, PODLITE):
            assert machine.ok(*program, "identify", str(process.pid)) == "found\n"
            assert machine.ok(*program, "pids", "found") == f"{process.pid}\n"
        assert json.loads(machine.podlite("pids", "found", "--json")) == [process.pid]
        assert json.loads(machine.podlite("identify", str(process.pid), "--json")) == [{"name": "found"}]
        out, err, code = machine.run([*PODLITE, "attach", "found", str(process.pid)])
        assert (out, said(err), code) == ("", 'Cannot create namespace file "/run/netns/found": File exists', 1)
    finally:
        process.kill()
        process.communicate()
    assert "found" in machine.ok("ip", "netns", "list"), "the name holds it"


def test_a_process_that_is_not_there_leaves_no_name(machine: Machine) -> None:
    out, err, code = machine.run([*PODLITE, "attach", "x", "999999999"])
    theirs = machine.run([*IP, "attach", "x", "999999999"])
    assert (out, said(err), code) == (theirs[0], said(theirs[1]), theirs[2])
    assert machine.podlite("list") == ""


def test_exec_has_the_namespaces_own_files_of_etc(machine: Machine) -> None:
    """ip-netns(8): /etc/netns/NAME/resolv.conf over /etc/resolv.conf, for the command alone."""
    machine.ok(
        "sh", "-ec", "mount -t tmpfs tmpfs /etc/netns 2>/dev/null || { mkdir /run/etc; mount --bind /run/etc /etc; }"
    )
    machine.ok(
        "sh", "-ec", "mkdir -p /etc/netns/a; touch /etc/marker; echo inside > /etc/netns/a/marker; ip netns add a"
    )
    for program in (IP, PODLITE):
        assert machine.ok(*program, "exec", "a", "cat", "/etc/marker") == "inside\n"
    assert machine.ok("cat", "/etc/marker") == ""


def test_all(machine: Machine) -> None:
    machine.ok("sh", "-ec", "ip netns add a; ip netns add b")
    theirs = machine.ok("ip", "-all", "netns", "exec", "ls", "/sys/class/net")
    assert machine.podlite("--all", "exec", "ls", "/sys/class/net") == theirs
    machine.podlite("delete", "--all")
    assert machine.ok("ip", "netns", "list") == ""


@pytest.mark.parametrize("maker", [IP, PODLITE], ids=["ip", "podlite"])
def test_monitor(machine: Machine, maker: list[str]) -> None:
    process = machine.popen([*PODLITE, "monitor"])
    assert process.stdout is not None
    try:
        # It says nothing when it has begun to listen: names are made until one is heard of.
        os.set_blocking(process.stdout.fileno(), False)
        deadline = time.monotonic() + 20
        heard = ""
        count = 0
        while not heard:
            assert time.monotonic() < deadline
            machine.ok(*maker, "add", f"m{count}")
            count += 1
            time.sleep(0.05)
            try:
                heard = os.read(process.stdout.fileno(), 4096).decode()
            except BlockingIOError:
                heard = ""
        os.set_blocking(process.stdout.fileno(), True)
        assert heard.splitlines()[-1].startswith("add m")
        machine.ok(*maker, "delete", "m0")
        lines = iter(process.stdout.readline, "")
        assert next(line for line in lines if line.startswith("delete")) == "delete m0\n"
    finally:
        process.kill()
        process.communicate()


def test_a_sandbox_is_shown_with_its_pod_and_not_deleted(machine: Machine, tmp_path: Path) -> None:
    from podlite.runtime.journal import boot_id

    machine.podlite("add", "cni-1")
    directory = tmp_path / "pods/uid"
    directory.mkdir(parents=True)
    header = {"version": 1, "boot": boot_id(), "netns": "/run/netns/cni-1"}
    header |= {"config": {"metadata": {"namespace": "default", "name": "web"}}}
    (directory / "record").write_text(json.dumps(header) + "\n")
    assert machine.podlite("list", "--run-dir", str(tmp_path)) == "cni-1 (pod: default/web)\n"
    listed = json.loads(machine.podlite("list", "--run-dir", str(tmp_path), "--json"))
    assert listed == [{"name": "cni-1", "pod": "default/web"}]
    out, err, code = machine.run([*PODLITE, "delete", "cni-1", "--run-dir", str(tmp_path)])
    assert (out, code) == ("", 1) and '"cni-1" is the network of pod default/web' in err
