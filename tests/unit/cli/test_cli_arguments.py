"""Reading command lines: what is whose, and what is said of mistakes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import pytest

from podlite.cli import exec as exec_verb
from podlite.cli import rm, run, values
from podlite.cli.image_pod import image_pod, name_of, published_port
from podlite.cli.main import main
from podlite.cli.parser import make_parser, read, split_command
from podlite.cli.verbs import VERBS
from podlite.errors import UsageError


def run_parser() -> argparse.ArgumentParser:
    return make_parser("run", VERBS["run"], run)


@pytest.mark.parametrize(
    ("line", "own", "command"),
    [
        ("pod -- ls -l", "pod", "ls -l"),
        ("pod ls -l", "pod", "ls -l"),
        ("-it pod ls -c x", "-it pod", "ls -c x"),
        ("-c main pod ls", "-c main pod", "ls"),
        ("-cmain pod ls", "-cmain pod", "ls"),
        ("-itc main pod ls", "-itc main pod", "ls"),
        ("--container main pod ls --help", "--container main pod", "ls --help"),
        ("--container=main pod ls", "--container=main pod", "ls"),
        ("pod -c main -- -x", "pod -c main", "-x"),
        ("pod -- -- x", "pod", "-- x"),
        ("pod", "pod", ""),
        ("pod -- ", "pod", ""),
        ("--no-such pod ls", "--no-such pod", "ls"),
    ],
)
def test_whose_words_are_whose(line: str, own: str, command: str) -> None:
    parser = make_parser("exec", VERBS["exec"], exec_verb)
    assert split_command(parser, line.split(), 1) == (own.split(), command.split())


def test_with_an_image_the_rest_is_the_command() -> None:
    line = ["--image", "img", "-e", "A=1", "--keep", "ls", "-l", "--quiet"]
    arguments = read(run_parser(), run, line)
    assert (arguments.image, arguments.env, arguments.keep, arguments.quiet) == ("img", ["A=1"], True, False)
    assert arguments.command == ["ls", "-l", "--quiet"]
    assert arguments.files == []


def test_without_an_image_options_may_follow_files() -> None:
    arguments = read(run_parser(), run, ["a.yaml", "--keep", "-", "--timeout", "1m30s"])
    assert (arguments.files, arguments.keep, arguments.timeout) == (["a.yaml", "-"], True, 90.0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("rnu", "there is no command 'rnu'\nhint: did you mean 'run'? `podlite --help` lists the commands"),
        ("zzzzz", "there is no command 'zzzzz'\nhint: `podlite --help` lists them"),
        ("--run-dir /x ps", "there is no option --run-dir before a command\nhint: options come after it"),
        ("run --timout 3 x", "there is no option --timout\nhint: did you mean --timeout?"),
        ("run --zzzzz=3 x", "there is no option --zzzzz\nhint: `podlite run --help` says what there is"),
        ("run --timeout", "--timeout needs a value"),
        ("run -o jsn x", "--output cannot be 'jsn', did you mean 'json': it is one of json, yaml"),
        ("exec", "POD is missing"),
        ("attach a b", "there is one argument too many: 'b'"),
        ("attach a b c", "there are 2 arguments too many: 'b' 'c'"),
        ("image", "COMMAND is missing"),
        ("image lod", "there is no command 'lod', did you mean 'load'"),
        ("image ls --digest", "there is no option --digest\nhint: did you mean --digests? `podlite image ls --help`"),
        ("run --name x y.yaml", "--name goes with --image"),
        ("logs --tail=-5 x", "--tail: -5 is too small: it must be at least 0, or -1 for all"),
        ("logs -f -p x", "the previous instance of a container has ended: there is nothing to follow"),
        ("rm", "there is nothing to remove"),
        ("rm --all x", "--all and names exclude each other"),
        ("rm --all=maybe", "--all: it is true or false, not 'maybe'"),
        ("delete pod x --force --grace-period=3", "--force and --grace-period greater than 0 cannot be specified"),
        ("delete -f x pod y", "-f and KIND, -l, --field-selector or --all exclude each other"),
        ("logs x -l a=b", "POD and -l exclude each other"),
        ("logs", "say whose logs: a pod's name, or -l LABELS"),
        ("describe", "say what to describe: a pod's name, `pods` for all, or -l LABELS"),
    ],
)
def test_mistakes(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"podlite: {says}"), err


def test_flags_are_given_a_value_as_to_kubectl() -> None:
    """Go's flags: `--watch=true`, `--watch=false`; and after `--` nothing is ours."""
    parser = run_parser()
    assert read(parser, run, ["--keep=true", "a.yaml"]).keep is True
    assert read(parser, run, ["--keep=false", "a.yaml"]).keep is False
    found = read(parser, run, ["--keep=T", "--image", "i", "--", "x", "--keep=false"])
    assert (found.keep, found.command) == (True, ["x", "--keep=false"])


@pytest.mark.parametrize("line", ["--help", "-h", "help", "help run", "run --help", "help image", "image load -h"])
def test_help(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: podlite ")
    assert err == ""


def test_nothing_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: podlite COMMAND")


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (values.seconds, "90", 90.0),
        (values.seconds, "0.5", 0.5),
        (values.seconds, "1h30m", 5400.0),
        (values.seconds, "1.5h", 5400.0),
        (values.seconds, "250ms", 0.25),
        (values.seconds, "2d", 172800.0),
        (values.positive, "7", 7),
        (values.truth, "false", False),
        (values.instant, "2026-11-23T20:00:00Z", 1_795_464_000_000_000_000),
        (values.instant, "2026-11-23T21:00:00.5+01:00", 1_795_464_000_500_000_000),
    ],
)
def test_values(read: Callable[[str], Any], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *((values.seconds, text) for text in ("", "soon", "5q", "m", "1.2.3s", "0", "-3", "0s", ".", "nan")),
        *((values.positive, text) for text in ("0", "-1", "x", "1.5")),
        *((values.instant, text) for text in ("", "yesterday", "2026-13-01T00:00:00Z")),
        (values.truth, "yes"),
        (rm._grace, "-2"),
    ],
)
def test_no_values(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        read(text)


def arguments(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{"image": "busybox", "env": [], "volume": [], "publish": [], "name": None, "restart": "Never", **given}
    )


def test_a_pod_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_US", "value")
    given = arguments(env=["A=1=2", "FROM_US"], volume=["/data:/mnt:ro", "/tmp:/tmp"], name="demo")
    pod = json.loads(image_pod(given, ["ls", "-l"]))
    container = pod["spec"]["containers"][0]
    assert pod["metadata"]["name"] == "demo"
    assert pod["spec"]["restartPolicy"] == "Never"
    assert container["command"] == ["ls", "-l"]
    assert container["env"] == [{"name": "A", "value": "1=2"}, {"name": "FROM_US", "value": "value"}]
    assert [(each["mountPath"], each["readOnly"]) for each in container["volumeMounts"]] == [
        ("/mnt", True),
        ("/tmp", False),
    ]
    assert [each["hostPath"]["path"] for each in pod["spec"]["volumes"]] == ["/data", "/tmp"]


@pytest.mark.parametrize("volume", ["", "data", ":/mnt", "/data:", "/data:/mnt:rx"])
def test_volumes_that_are_none(volume: str) -> None:
    with pytest.raises(UsageError):
        image_pod(arguments(volume=[volume]), [])


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("busybox", "busybox"),
        ("registry.example:5000/team/My_App:1.2", "my-app"),
        ("quay.io/app@sha256:" + "0" * 64, "app"),
        ("---", "pod"),
        ("x" * 100, "x" * 63),
    ],
)
def test_its_name_is_the_images(image: str, name: str) -> None:
    assert name_of(image) == name


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("8080:80", {"hostPort": 8080, "containerPort": 80}),
        ("53:53/udp", {"hostPort": 53, "containerPort": 53, "protocol": "UDP"}),
        ("127.0.0.1:8080:80", {"hostPort": 8080, "containerPort": 80, "hostIP": "127.0.0.1"}),
        ("[::1]:8080:80", {"hostPort": 8080, "containerPort": 80, "hostIP": "::1"}),
    ],
)
def test_published_ports(text: str, port: dict[str, Any]) -> None:
    assert published_port(text) == port


@pytest.mark.parametrize("text", ["80", "a:80", "80:", ":80", "80:80x"])
def test_published_ports_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:CONTAINER"):
        published_port(text)
