"""The verbs on the agent's pods and on foreground ones alike; names, flags and output are kubectl's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.agents import IMAGE, SECONDS, Machine, manifest, until

pytestmark = [pytest.mark.root]


@pytest.fixture
def detached(machine: Machine) -> Machine:
    machine.start()
    return machine


def test_run_detached(detached: Machine, tmp_path: Path) -> None:
    path = tmp_path / "pod.json"
    settings = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "settings"}, "data": {"a": "b"}}
    path.write_text(f"{json.dumps(settings)}\n---\n{json.dumps(manifest('web'))}")
    assert detached.podlite("run", "--detach", str(path)).stdout == "pod/web created\n"
    detached.running("web")
    again = detached.podlite("run", "-d", str(path), check=False)
    assert (again.returncode, again.stdout) == (125, "")
    assert 'Error from server (AlreadyExists): pods "web" already exists' in again.stderr
    assert detached.podlite("get", "cm", "-o", "name").stdout == "configmap/settings\n"
    assert detached.podlite("delete", "cm", "settings").returncode == 0


def test_run_detached_starts_an_agent(machine: Machine) -> None:
    try:
        done = machine.podlite(
            "run", "-d", "--network=none", "--image", IMAGE, "--name=web", "--", "/bin/sleep", "1000"
        )
        assert done.stdout == "pod/web created\n"
        assert "an agent has been started, process" in done.stderr
        machine.running("web")
        assert (
            machine.podlite("delete", "pod", "web", "--force").stdout
            == 'pod "web" force deleted from default namespace\n'
        )
    finally:
        pid = int(done.stderr.partition("process ")[2].partition(";")[0])
        machine.client.close()
        os.kill(pid, signal.SIGTERM)
        until(lambda: not os.path.exists(machine.socket))
        until(lambda: _is_over(pid))


def _is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True  # gone before it was looked, or while it was read (proc(5): ESRCH)


def test_get_wait_events_delete(detached: Machine) -> None:
    detached.create("web", labels={"app": "web"})
    assert detached.podlite("wait", "--for=condition=Ready", "pod/web").stdout == "pod/web condition met\n"
    lines = detached.podlite("get", "pods").stdout.splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert lines[1].split()[:4] == ["web", "1/1", "Running", "0"]
    assert detached.podlite("get", "po", "-l", "app=web", "-o", "name").stdout == "pod/web\n"
    assert json.loads(detached.podlite("get", "pod/web", "-o", "json").stdout)["status"]["phase"] == "Running"
    assert detached.podlite("get", "pods", "-n", "other").stderr == "No resources found in other namespace.\n"
    missing = detached.podlite("get", "pod", "nothing", check=False)
    assert missing.returncode == 1
    assert 'Error from server (NotFound): pods "nothing" not found' in missing.stderr
    assert detached.podlite("get", "pod", "nothing", "--ignore-not-found").stdout == ""
    text = detached.podlite("events", "--for", "pod/web").stdout.splitlines()
    assert text[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert [line.split()[2] for line in text[1:]] == ["Pulled", "Created", "Started"]
    late = detached.podlite("wait", "--for=jsonpath={.status.phase}=Failed", "pod/web", "--timeout=1s", check=False)
    assert (late.returncode, late.stderr) == (1, "podlite: timed out waiting for the condition on pods/web\n")
    waiting = subprocess.Popen(
        detached.command("wait", "--for=delete", "pod/web"), env=detached.environment(), stdout=subprocess.PIPE
    )
    assert detached.podlite("delete", "pods", "-l", "app=web").stdout == 'pod "web" deleted from default namespace\n'
    assert detached.pod("web") is None
    assert waiting.communicate(timeout=30)[0] == b"pod/web deleted\n"


def test_get_watches(detached: Machine) -> None:
    watch = subprocess.Popen(
        detached.command("get", "pods", "-w", "-o", "name"), env=detached.environment(), stdout=subprocess.PIPE
    )
    assert watch.stdout is not None
    time.sleep(0.5)
    detached.create("web")
    assert watch.stdout.readline() == b"pod/web\n"
    watch.kill()
    watch.communicate()


def test_without_an_agent_the_pods_of_foreground_runs(machine: Machine) -> None:
    # It ends when it is told to: as pid 1 sleep(1) would sit out its grace period, half a minute.
    ends = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")
    run = subprocess.Popen(
        machine.command("run", "--network=none", "--name=fg", "--image", IMAGE, "--", *ends),
        env=machine.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        machine.podlite("wait", "--for=create", "pod/fg")
        machine.podlite("wait", "--for=condition=Ready", "pod/fg")
        assert machine.podlite("get", "pods", "-o", "name").stdout == "pod/fg\n"
        refused = machine.podlite("delete", "pod", "nothing", check=False)
        assert refused.returncode == 1
        assert machine.podlite("delete", "pod", "fg").stdout == 'pod "fg" deleted from default namespace\n'
        run.wait(SECONDS)
    finally:
        run.kill()
        run.wait()
    assert machine.podlite("get", "pods").stderr == "No resources found in default namespace.\n"


def test_logs_exec_inspect_and_ps_of_the_agents_pods(detached: Machine) -> None:
    detached.running(detached.create("web", script="echo hello; exec sleep 1000")["metadata"]["name"])
    until(lambda: detached.podlite("logs", "web").stdout == "hello\n")
    assert detached.podlite("exec", "web", "--", "/bin/sh", "-c", "echo hi; exit 3", check=False).returncode == 3
    assert detached.podlite("ps", "-o", "name").stdout == "pod/web\n"
    # They work while no agent runs, too: the shim does.
    detached.kill()
    assert detached.podlite("exec", "web", "--", "/bin/echo", "hi").stdout == "hi\n"
    assert detached.podlite("logs", "web").stdout == "hello\n"
    assert detached.podlite("rm", "web").returncode == 0


def test_attach(detached: Machine) -> None:
    script = "while read line; do [ $line = end ] && exit 7; echo got $line; done"
    detached.create("web", script=script, container={"stdin": True}, restartPolicy="Never")
    detached.running("web")
    command = detached.command("attach", "-i", "web")

    def attach() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=detached.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    with attach() as one:
        assert one.stdin is not None
        assert one.stdout is not None
        one.stdin.write(b"one\n")
        assert one.stdout.readline() == b"got one\n"
        one.send_signal(signal.SIGINT)
        assert one.wait(30) == 128 + signal.SIGINT
    assert detached.pod("web")["status"]["phase"] == "Running"  # type: ignore[index]
    with attach() as two:
        assert two.stdin is not None
        two.stdin.write(b"end\n")
        assert two.wait(30) == 7


def test_the_forms_of_get(detached: Machine) -> None:
    """The columns and messages are kubectl's (k8s.io/kubectl/pkg/cmd/get, k8s.io/cli-runtime/pkg/printers)."""
    for name in ("web", "db"):
        detached.create(name, labels={"app": name})
    value = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "settings"}, "data": {"colour": "red"}}
    detached.client.request("POST", "/api/v1/namespaces/default/configmaps", value)
    detached.podlite("wait", "--for=condition=Ready", "pods", "--all")

    def said(*words: str) -> str:
        return detached.podlite("get", *words).stdout

    assert said("pods", "-o", "jsonpath={.items[*].metadata.name}") == "db web"
    assert said("pod", "web", "-o", 'jsonpath={.kind}{"\\n"}') == "Pod\n"
    custom = "custom-columns=NAME:.metadata.name,APP:.metadata.labels.app,NOTHING:.spec.nothing"
    assert [line.split() for line in said("pods", "-o", custom).splitlines()] == [
        ["NAME", "APP", "NOTHING"],
        ["db", "db", "<none>"],
        ["web", "web", "<none>"],
    ]
    assert said("pods", "-o", "name", "--sort-by=.metadata.labels.app") == "pod/db\npod/web\n"
    lines = said("pods", "-L", "app", "--show-kind").splitlines()
    assert lines[0].split()[-1] == "APP"
    assert (lines[1].split()[0], lines[1].split()[-1]) == ("pod/db", "db")
    tables = said("pods,cm").split("\n\n")
    assert [table.split()[0] for table in tables] == ["NAME", "NAME"]
    assert tables[1].splitlines()[1].split()[:2] == ["configmap/settings", "1"]
    assert said("cm/settings", "pod/web", "-o", "name") == "configmap/settings\npod/web\n"
    assert [each["kind"] for each in json.loads(said("cm,pods", "-o", "json"))["items"]] == ["ConfigMap", "Pod", "Pod"]
    assert detached.podlite("delete", "cm/settings", "pod/db").stdout == (
        'configmap "settings" deleted from default namespace\npod "db" deleted from default namespace\n'
    )
    wrong = detached.podlite("get", "pods", "-o", "jsonpath={.items[", check=False)
    assert (wrong.returncode, wrong.stderr) == (2, "podlite: unterminated array in '{.items['\n")
    wrong = detached.podlite("get", "pods", "-o", "table", check=False)
    assert (wrong.returncode, "there is no form 'table'" in wrong.stderr) == (2, True)


def test_describe_logs_and_delete_as_kubectl_is_used(detached: Machine, tmp_path: Path) -> None:
    for name in ("web", "db"):
        detached.create(
            name, script=f"for n in $(seq 12); do echo {name} $n; done; exec sleep 1000", labels={"app": name}
        )
        detached.running(name)
        until(lambda name=name: detached.podlite("logs", name).stdout.endswith(f"{name} 12\n"))  # type: ignore[misc]

    def names(*words: str) -> list[str]:
        lines = detached.podlite("describe", *words).stdout.splitlines()
        return [line.split()[1] for line in lines if line.startswith("Name:")]

    assert names("pod", "web") == names("pod/web") == names("web") == names("po", "-l", "app=web") == ["web"]
    assert sorted(names("pods")) == ["db", "web"]
    assert detached.podlite("describe", check=False).returncode == 2
    # kubectl logs -l: the last ten lines of each, unless it is said how many.
    some = detached.podlite("logs", "-l", "app in (web, db)").stdout.splitlines()
    assert sorted(some) == sorted(f"{name} {number}" for name in ("web", "db") for number in range(3, 13))
    assert detached.podlite("logs", "-l", "app=web", "--tail=-1").stdout.count("\n") == 12
    assert detached.podlite("logs", "web", "main", "--tail=1").stdout == "web 12\n"
    follow = subprocess.Popen(
        detached.command("logs", "-l", "app", "-f", "--tail=1", "--prefix"),
        env=detached.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert follow.stdout is not None
    assert {follow.stdout.readline() for _ in range(2)} == {"db/main db 12\n", "web/main web 12\n"}
    follow.send_signal(signal.SIGINT)
    assert follow.wait(30) == 130
    follow.stdout.close()
    for how, told in (("client", "dry run"), ("server", "server dry run")):
        tried = detached.podlite("delete", "pod", "web", f"--dry-run={how}")
        assert tried.stdout == f'pod "web" deleted from default namespace ({told})\n'
    assert detached.pod("web") is not None
    path = tmp_path / "both.yaml"
    path.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: main, image: i}]}\n---\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nothing}\n"
    )
    done = detached.podlite("delete", "-f", str(path), check=False)
    assert done.stdout == 'pod "web" deleted from default namespace\n'
    assert (done.returncode, 'configmaps "nothing" not found' in done.stderr) == (1, True)
    assert detached.pod("web") is None
    assert detached.podlite("delete", "-f", str(path), "--all", check=False).returncode == 2
    # Following ends when all that is followed has.
    follow = subprocess.Popen(
        detached.command("logs", "-l", "app", "-f"), env=detached.environment(), stdout=subprocess.PIPE, text=True
    )
    assert follow.stdout is not None
    assert follow.stdout.readline() == "db 3\n"
    detached.podlite("delete", "pod", "db")
    assert follow.stdout.read().splitlines() == [f"db {number}" for number in range(4, 13)]
    assert follow.wait(60) == 0
    follow.stdout.close()
    assert detached.podlite("delete", check=False).returncode == 2
