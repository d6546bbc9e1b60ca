"""What `podlite run` takes: files, documents, standard input, the kinds there are, a pod without a file."""

from __future__ import annotations

import json
import os
import re

import pytest

from tests.support.cli import HOST_IMAGE, Podlite, pod

pytestmark = [pytest.mark.root]


def test_several_files_documents_and_standard_input(podlite: Podlite) -> None:
    first = podlite.manifest(pod("echo one", name="one") + "---\n" + pod("echo two", name="two") + "---\n---\n")
    third = podlite.manifest(pod("echo three", name="three"))
    done = podlite("run", "--quiet", first, "-", third, stdin=pod("echo four", name="four"))
    assert done.status == 0, done
    assert sorted(done.out.split()) == ["four", "one", "three", "two"]


def test_json_is_yaml(podlite: Podlite) -> None:
    spec = f'{{"containers": [{{"name": "c", "image": "{HOST_IMAGE}", "command": ["echo", "hi"]}}]'
    spec += ', "restartPolicy": "Never"}'
    text = f'{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "j"}}, "spec": {spec}}}'
    done = podlite("run", "--quiet", "-", stdin=text)
    assert (done.status, done.out) == (0, "hi\n"), done


def test_a_list_of_objects(podlite: Podlite) -> None:
    items = "".join("- " + pod(f"echo {name}", name=name).replace("\n", "\n  ").rstrip(" ") for name in ("a", "b"))
    done = podlite("run", "--quiet", podlite.manifest(f"apiVersion: v1\nkind: List\nitems:\n{items}"))
    assert done.status == 0, done
    assert sorted(done.out.split()) == ["a", "b"]


def test_a_pod_that_was_copied_from_a_cluster(podlite: Podlite) -> None:
    """What only a server may say is replaced on creation: rest.BeforeCreate, and PrepareForCreate in
    pkg/registry/core/pod/strategy.go."""
    text = pod("echo again", name="copied").replace(
        "  name: copied\n",
        """  name: copied
  uid: 11111111-2222-3333-4444-555555555555
  resourceVersion: "7"
  generation: 3
  creationTimestamp: "2020-01-01T00:00:00Z"
  deletionTimestamp: "2020-01-01T00:00:30Z"
  deletionGracePeriodSeconds: 0
""",
    )
    assert "deletionTimestamp" in text
    text += """status:
  phase: Failed
  reason: Evicted
  startTime: "2020-01-01T00:00:00Z"
  containerStatuses:
  - {name: main, image: x, imageID: "", ready: false, restartCount: 4, state: {terminated: {exitCode: 5}}}
"""
    done = podlite("run", "-o", "json", podlite.manifest(text))
    assert done.status == 0, done
    found = json.loads(done.out)
    assert found["metadata"]["uid"] != "11111111-2222-3333-4444-555555555555"
    assert found["metadata"]["generation"] == 1
    assert "deletionTimestamp" not in found["metadata"]
    assert (found["status"]["phase"], found["status"].get("reason")) == ("Succeeded", None)
    assert found["status"]["startTime"] > "2020-01-02"
    [status] = found["status"]["containerStatuses"]
    assert (status["restartCount"], status["lastState"]) == (0, {})


def test_names_that_are_generated(podlite: Podlite) -> None:
    """pkg/storage/names/generate.go: the base and five letters."""
    text = pod("hostname", name="x").replace("name: x\n", "generateName: made-\n", 1)
    done = podlite("run", "--quiet", podlite.manifest(f"{text}---\n{text}"))
    assert done.status == 0, done
    first, second = done.out.split()
    assert first != second
    assert all(re.fullmatch("made-[bcdfghjklmnpqrstvwxz2456789]{5}", each) for each in (first, second))


WORKLOAD = """apiVersion: {version}
kind: {kind}
metadata: {{name: work}}
spec:
{selector}  template:
    metadata: {{labels: {{app: work}}}}
    spec:
      {policy}containers:
      - name: main
        image: {image}
        command: ["/bin/sh", "-c", "echo $(hostname); exec sleep 1000"]
      terminationGracePeriodSeconds: 0
"""


@pytest.mark.parametrize(
    ("kind", "version", "name"),
    [
        ("Deployment", "apps/v1", r"work-\S+"),
        ("ReplicaSet", "apps/v1", r"work-\S+"),
        ("StatefulSet", "apps/v1", "work-0"),
        ("DaemonSet", "apps/v1", r"work-\S+"),
        ("Job", "batch/v1", r"work-\S+"),
    ],
)
def test_pod_templates(podlite: Podlite, kind: str, version: str, name: str) -> None:
    is_job = kind == "Job"
    text = WORKLOAD.format(
        kind=kind,
        version=version,
        image=HOST_IMAGE,
        selector="" if is_job else "  selector: {matchLabels: {app: work}}\n",
        policy="restartPolicy: Never\n      " if is_job else "",
    )
    done = podlite("run", "--timeout", "1", "-o", "json", podlite.manifest(text))
    assert done.status == 124, done
    found = done.json
    assert found["kind"] == "Pod"
    assert re.fullmatch(name, found["metadata"]["name"])
    assert found["metadata"]["labels"]["app"] == "work"
    assert found["spec"]["restartPolicy"] == ("Never" if is_job else "Always")


@pytest.mark.parametrize("kind", ["Service", "Ingress", "CronJob", "Pods", "ReplicationController"])
def test_other_kinds_are_refused_by_name(podlite: Podlite, kind: str) -> None:
    path = podlite.manifest(f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: x}}\n---\n" + pod("echo ran"))
    done = podlite("run", path)
    assert done.status == 125, done
    assert done.err.startswith(f'podlite: {path}:2:7: kind: podlite does not run objects of kind "{kind}", only Pod,')
    assert done.out == "", "nothing runs"


def test_config_maps_and_secrets(podlite: Podlite) -> None:
    text = f"""apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{A: from the config map, file.txt: "text\\n"}}
binaryData: {{bytes: AP8=}}
---
apiVersion: v1
kind: Secret
metadata: {{name: secret}}
data: {{B: {"ZnJvbSB0aGUgc2VjcmV0"}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: demo}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: {HOST_IMAGE}
    command: ["/bin/sh", "-c", "echo $A; echo $B; cat /config/file.txt; od -An -tx1 /config/bytes"]
    envFrom: [{{configMapRef: {{name: settings}}}}]
    env: [{{name: B, valueFrom: {{secretKeyRef: {{name: secret, key: B}}}}}}]
    volumeMounts: [{{name: config, mountPath: /config}}]
  volumes: [{{name: config, configMap: {{name: settings}}}}]
"""
    done = podlite("run", "--quiet", podlite.manifest(text))
    assert done.status == 0, done
    assert done.out == "from the config map\nfrom the secret\ntext\n 00 ff\n"


def test_no_pod_at_all(podlite: Podlite) -> None:
    config_map = podlite.manifest("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
    done = podlite("run", config_map)
    assert done.status == 125, done
    assert done.err == f"podlite: there is no pod in {config_map}\n"
    for text in ("", "# nothing\n", "---\n"):
        path = podlite.manifest(text)
        done = podlite("run", path)
        assert done.status == 125, done
        assert done.err == f"podlite: There is no Kubernetes object in {path}.\n"


# --- a pod without a file ---------------------------------------------------------------------


def test_image(podlite: Podlite, short_tmp: str) -> None:
    os.mkdir(f"{short_tmp}/data")
    with open(f"{short_tmp}/data/file", "w") as file:
        file.write("from the host\n")
    script = "echo $A-$B $(hostname); cat /mnt/file; echo back >/mnt/new; (echo x >/ro/file) 2>&1"
    words = ["--image", HOST_IMAGE, "-e", "A=1", "-e", "B", "--name", "named"]
    words += ["-v", f"{short_tmp}/data:/mnt", "-v", f"{short_tmp}/data:/ro:ro", "--quiet"]
    done = podlite("run", *words, "sh", "-c", script, env={"B": "mine"})
    assert done.out.splitlines()[:2] == ["1-mine named", "from the host"]
    assert "Read-only file system" in done.out
    assert done.status != 0
    with open(f"{short_tmp}/data/new") as file:
        assert file.read() == "back\n"


def test_image_with_its_options_behind(podlite: Podlite) -> None:
    done = podlite("run", "--quiet", "--image", HOST_IMAGE, "echo", "-n", "--quiet", "-e")
    assert (done.status, done.out) == (0, "--quiet -e"), done


def test_image_restart_policy(podlite: Podlite) -> None:
    words = ["--image", HOST_IMAGE, "--restart", "OnFailure", "-v", f"{podlite.directory}:/state"]
    done = podlite("run", *words, "--", "sh", "-c", "[ -e /state/x ] && exit 0; touch /state/x; exit 1")
    assert done.status == 0, done
    assert "started again (restart 1)" in done.err


def test_a_volume_that_is_not_there(podlite: Podlite) -> None:
    """As with docker, a directory is made; as with a hostPath volume without a type, of a missing path."""
    path = f"{podlite.directory}/not/there"
    done = podlite("run", "-q", "--image", HOST_IMAGE, "-v", f"{path}:/mnt", "--", "ls", "/mnt")
    assert (done.status, done.out, done.err) == (0, "", "")
    assert os.listdir(path) == []


# --- bad input --------------------------------------------------------------------------------


def test_yaml_errors_have_a_place(podlite: Podlite) -> None:
    path = podlite.manifest("apiVersion: v1\nkind: Pod\nmetadata:\n  name: [\n")
    done = podlite("run", path)
    assert done.status == 125, done
    assert re.match(rf"podlite: {path}:5:1: YAML cannot be read: ", done.err)


BAD = f"""apiVersion: v1
kind: Pod
metadata:
  name: Bad_Name
spec:
  containers:
  - name: same
    imgae: {HOST_IMAGE}
    image: {HOST_IMAGE}
    ports: [{{containerPort: 99999}}]
    resources: {{limits: {{cpu: lots}}}}
  - name: same
    image: {HOST_IMAGE}
  volumes:
  - name: both
    emptyDir: {{}}
    hostPath: {{path: /tmp}}
"""


def test_every_problem_is_told_at_once_with_its_place(podlite: Podlite) -> None:
    path = podlite.manifest(BAD)
    broken = podlite.manifest("a: [\n")
    done = podlite("run", broken, path)
    assert done.status == 125, done
    lines = [line.removeprefix(f"podlite: {path}:") for line in done.err.splitlines()]
    assert lines[0].startswith(f"podlite: {broken}:2:1: YAML cannot be read")
    # In the API server's words (apimachinery's validation/field and core/validation).
    assert lines[1].startswith('4:9: metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain must')
    assert lines[2:6] == [
        '8:5: spec.containers[0].imgae: unknown field, did you mean "image"?',
        "10:29: spec.containers[0].ports[0].containerPort: Invalid value: 99999:"
        " must be between 1 and 65535, inclusive",
        '11:31: spec.containers[0].resources.limits[cpu]: Invalid value: "lots": quantities must match the regular'
        " expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        '12:11: spec.containers[1].name: Duplicate value: "same"',
    ]
    assert lines[6] == "17:15: spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"


UNKNOWN = pod("echo ran").replace("    command:", "    comand: [x]\n    command:")


@pytest.mark.parametrize(
    ("validate", "status", "says"),
    [
        ("strict", 125, 'podlite: {path}:10:5: spec.containers[0].comand: unknown field, did you mean "command"?'),
        ("warn", 0, 'podlite: warning: {path}:10:5: spec.containers[0].comand: unknown field, did you mean "command"?'),
        ("ignore", 0, ""),
    ],
)
def test_unknown_fields(podlite: Podlite, validate: str, status: int, says: str) -> None:
    path = podlite.manifest(UNKNOWN)
    done = podlite("run", f"--validate={validate}", "--quiet", path)
    assert done.status == status, done
    assert done.out == ("ran\n" if status == 0 else "")
    assert done.err.strip() == says.format(path=path)


def test_a_field_that_is_not_supported_is_refused(podlite: Podlite) -> None:
    path = podlite.manifest(pod("true", spec="volumes: [{name: n, nfs: {server: s, path: /p}}]"))
    done = podlite("run", "--validate=ignore", path)
    assert done.status == 125, done
    assert "spec.volumes[0].nfs: Forbidden: not supported by podlite" in done.err


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff\xfe\x00", "is not text in UTF-8"),
        (b"just text\n", "this is no Kubernetes object"),
        (b"- a\n- b\n", ""),
        (b"apiVersion: v1\n", "kind"),
        (b"kind: Pod\n", "apiVersion"),
        (b"apiVersion: v2\nkind: Pod\nmetadata: {name: x}\n", "v2"),
        (b"a: &x [*x]\n", ""),
    ],
)
def test_what_is_no_manifest(podlite: Podlite, data: bytes, says: str) -> None:
    path = podlite.manifest("")
    with open(path, "wb") as file:
        file.write(data)
    done = podlite("run", path)
    assert done.status in (2, 125), done
    assert done.err.startswith(f"podlite: {path}"), done
    assert says in done.err
    assert "Traceback" not in done.err


def test_two_pods_of_a_name(podlite: Podlite) -> None:
    done = podlite("run", podlite.manifest(pod("true") + "---\n" + pod("true")))
    assert done.status == 125, done
    assert 'metadata.name: Duplicate value: "demo"' in done.err
