"""Volumes as containers see them.

Sources: https://kubernetes.io/docs/concepts/storage/volumes/, .../projected-volumes/, pkg/volume and
makeMounts in pkg/kubelet/kubelet_pods.go.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from msgspec import structs

from podlite.api.config import ConfigMap, Secret
from podlite.api.meta import ObjectMeta
from podlite.kubelet.kubelet import Kubelet
from podlite.kubelet.types import KubeletError
from podlite.kubelet.volumes.local import local_volumes, remove_local_volume
from podlite.runtime.service import Runtime
from tests.support.behaviours import Behaviour, check, ended, load, log_of, reached
from tests.support.images import Dir, File, TestImage, busybox_files, docker_archive

pytestmark = [pytest.mark.root, pytest.mark.anyio]

OBJECTS = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, size: "10"}
binaryData: {bits: "AAEC"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
"""


def whole(spec: str) -> str:
    """A whole Pod, with the objects above after it."""
    lines = "".join(f"  {line}\n" for line in spec.strip("\n").splitlines())
    head = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: shop}, annotations: {note: hi}}\nspec:\n"
    return head + lines + OBJECTS


TABLE = [
    Behaviour(
        "configMap",
        "pkg/volume/configmap: defaultMode 0644, files are links through ..data",
        whole("""
restartPolicy: Never
volumes: [{name: v, configMap: {name: settings}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}],
   command: [sh, -c, 'cd /v; ls; cat colour; echo; od -An -tx1 bits; stat -Lc %a:%u:%g colour; readlink colour;
     readlink ..data | cut -c1-2; touch /v/x 2>&1 | tail -c 22']}
"""),
        status={"phase": "Succeeded"},
        logs={"c": "bits\ncolour\nsize\nblue\n 00 01 02\n644:0:0\n..data/colour\n..\nRead-only file system\n"},
    ),
    Behaviour(
        "configMap-items-and-modes",
        "https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume/",
        whole("""
restartPolicy: Never
volumes: [{name: v, configMap: {name: settings, defaultMode: 0400,
           items: [{key: colour, path: a/b/c}, {key: size, path: s, mode: 0755}]}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}],
   command: [sh, -c, 'cd /v; find . -type f -o -type l | grep -v "/\\.\\." | sort; cat a/b/c; stat -Lc %a a/b/c s']}
"""),
        status={"phase": "Succeeded"},
        logs={"c": r"\./a\n\./s\nblue400\n755\n"},
    ),
    Behaviour(
        "secret-in-memory",
        "https://kubernetes.io/docs/concepts/storage/volumes/#secret: backed by tmpfs",
        whole("""
restartPolicy: Never
volumes: [{name: v, secret: {secretName: keys}}, {name: o, secret: {secretName: nowhere, optional: true}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}, {name: o, mountPath: /o}],
   command: [sh, -c, 'cat /v/token; echo; stat -fc %T /v; stat -Lc %a /v/token; ls /o']}
"""),
        status={"phase": "Succeeded"},
        logs={"c": "s3cret\ntmpfs\n644\n"},
    ),
    Behaviour(
        "downwardAPI",
        "https://kubernetes.io/docs/concepts/workloads/pods/downward-api/",
        whole("""
restartPolicy: Never
volumes:
- name: v
  downwardAPI:
    items:
    - {path: labels, fieldRef: {fieldPath: metadata.labels}}
    - {path: note, fieldRef: {fieldPath: "metadata.annotations['note']"}, mode: 0600}
    - {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}], resources: {limits: {cpu: 500m}},
   command: [sh, -c, 'cd /v; cat labels; echo; cat note; echo; cat cpu; echo; stat -Lc %a note']}
"""),
        status={"phase": "Succeeded"},
        logs={"c": 'app="shop"\nhi\n500\n600\n'},
    ),
    Behaviour(
        "projected",
        "https://kubernetes.io/docs/concepts/storage/projected-volumes/",
        whole("""
restartPolicy: Never
volumes:
- name: v
  projected:
    defaultMode: 0440
    sources:
    - configMap: {name: settings, items: [{key: colour, path: map/colour}]}
    - secret: {name: keys, items: [{key: token, path: secret/token, mode: 0400}]}
    - downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}
    - configMap: {name: nowhere, optional: true}
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}],
   command: [sh, -c, 'cd /v; cat map/colour secret/token name; echo; stat -Lc %a map/colour secret/token name']}
"""),
        status={"phase": "Succeeded"},
        logs={"c": "blues3cretweb\n440\n400\n440\n"},
    ),
    Behaviour(
        "a-ConfigMap-that-is-not-there",
        "pkg/volume/util/operationexecutor: MountVolume.SetUp failed",
        whole("""
volumes: [{name: v, configMap: {name: nowhere}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}]}
"""),
        until={"containerStatuses[c].state.waiting.reason": "ContainerCreating", "phase": "Pending"},
        status={"phase": "Pending", "conditions[Initialized].status": "True", "conditions[Ready].status": "False"},
        events=('Warning FailedMount MountVolume.SetUp failed for volume "v" : configmap "nowhere" not found',),
    ),
    Behaviour(
        "emptyDir-is-shared-and-outlives-a-container",
        "https://kubernetes.io/docs/concepts/storage/volumes/#emptydir: a container crashing does not remove it",
        whole("""
restartPolicy: OnFailure
volumes: [{name: v, emptyDir: {}}, {name: m, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}, {name: m, mountPath: /m}],
   command: [sh, -c, 'stat -c %a /v; stat -fc %T /m; echo $(($(stat -fc "%b * %S" /m)));
      test -e /v/x || { touch /v/x /m/x; exit 1; }; test -e /m/x']}
"""),
        status={"phase": "Succeeded", "containerStatuses[c].restartCount": 1},
        logs={"c": "777\ntmpfs\n1048576\n"},
    ),
    Behaviour(
        "hostPath-of-the-wrong-type",
        "pkg/volume/hostpath: hostPath type check failed",
        whole("""
volumes: [{name: v, hostPath: {path: /etc/passwd, type: Directory}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}]}
"""),
        until={"containerStatuses[c].state.waiting.reason": "ContainerCreating", "phase": "Pending"},
        status={"phase": "Pending"},
        events=(
            'Warning FailedMount MountVolume.SetUp failed for volume "v" : hostPath type check failed: /etc/passwd is '
            "not a directory",
        ),
    ),
    Behaviour(
        "subPath-and-subPathExpr",
        "https://kubernetes.io/docs/concepts/storage/volumes/#using-subpath-expanded-environment",
        whole("""
restartPolicy: Never
volumes: [{name: v, emptyDir: {}}, {name: s, configMap: {name: settings}}]
containers:
- {c: c, env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}],
   volumeMounts: [{name: v, mountPath: /one, subPathExpr: logs/$(POD)}, {name: v, mountPath: /all},
                  {name: s, mountPath: /etc/colour, subPath: colour}],
   command: [sh, -c, 'touch /one/x; ls /all/logs/web; cat /etc/colour; stat -c %F /etc/colour']}
"""),
        status={"phase": "Succeeded"},
        logs={"c": "x\nblueregular file\n"},
    ),
    Behaviour(
        "subPath-out-of-the-volume",
        "CVE-2017-1002101: a link in the volume must not lead out of it",
        whole("""
restartPolicy: Never
volumes: [{name: v, emptyDir: {}}]
initContainers:
- {c: i, volumeMounts: [{name: v, mountPath: /v}], command: [ln, -s, /etc, /v/link]}
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /x, subPath: link}], command: ["true"]}
"""),
        until={"containerStatuses[c].state.waiting.reason": "CreateContainerConfigError"},
        status={"phase": "Pending"},
        events=('Warning Failed Error: failed to prepare subPath for volumeMount "v" of container "c"',),
    ),
    Behaviour(
        "readOnly-and-recursiveReadOnly",
        "https://kubernetes.io/docs/concepts/storage/volumes/#read-only-mounts",
        whole("""
restartPolicy: Never
volumes: [{name: v, emptyDir: {}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /ro, readOnly: true}, {name: v, mountPath: /rw},
                        {name: v, mountPath: /rro, readOnly: true, recursiveReadOnly: Enabled}],
   command: [sh, -c, 'touch /rw/x; for d in ro rro; do touch /$d/y 2>/dev/null && echo bad; ls /$d; done']}
"""),
        status={
            "phase": "Succeeded",
            "containerStatuses[c].volumeMounts[2].recursiveReadOnly": "Enabled",
            "containerStatuses[c].volumeMounts[0].readOnly": True,
        },
        logs={"c": "x\nx\n"},
    ),
    Behaviour(
        "fsGroup",
        "https://kubernetes.io/docs/tasks/configure-pod-container/security-context/: volumes are owned by fsGroup, "
        "setgid, and writable by it",
        whole("""
restartPolicy: Never
securityContext: {fsGroup: 4321, runAsUser: 1000, runAsGroup: 1000, fsGroupChangePolicy: OnRootMismatch}
volumes: [{name: v, emptyDir: {}}, {name: s, secret: {secretName: keys, defaultMode: 0400}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}, {name: s, mountPath: /s}],
   command: [sh, -c, 'stat -c %g:%a /v; touch /v/x; stat -c %u:%g /v/x; stat -Lc %g:%a /s/token; cat /s/token; id -G']}
"""),
        status={"phase": "Succeeded"},
        logs={"c": "4321:2777\n1000:4321\n4321:440\ns3cret1000 4321\n"},
    ),
    Behaviour(
        "a-volume-within-a-volume",
        "pkg/volume/util/nested_volumes.go: mount points are made in the outer volume",
        whole("""
restartPolicy: Never
volumes: [{name: v, configMap: {name: settings}}, {name: e, emptyDir: {}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}, {name: e, mountPath: /v/inner}],
   command: [sh, -c, 'touch /v/inner/x && ls /v']}
"""),
        status={"phase": "Succeeded"},
        logs={"c": "colour\ninner\nsize\n".replace("colour", "bits\ncolour")},
    ),
]


async def there(path: str) -> None:
    """Waits for a file."""
    with anyio.fail_after(60):
        while not await anyio.Path(path).exists():
            await anyio.sleep(0.01)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_volumes(kubelet: Kubelet, row: Behaviour) -> None:
    await check(kubelet, row)


async def test_a_volume_that_fails_is_told_and_tried_again(kubelet: Kubelet) -> None:
    """pkg/volume/util/operationexecutor: `MountVolume.SetUp failed for volume`; tried again with back-off."""
    [pod] = load(whole("""
restartPolicy: Never
volumes: [{name: v, configMap: {name: later}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}], command: [cat, /v/k]}
""")).pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    with anyio.fail_after(60), kubelet.watch_events() as events:
        async for event in events:
            if event.reason == "FailedMount":
                break
    assert event.message == 'MountVolume.SetUp failed for volume "v" : configmap "later" not found'
    assert kubelet.pod(uid).status.phase == "Pending"
    kubelet.objects.update([ConfigMap(metadata=ObjectMeta(name="later", namespace="default"), data={"k": "now"})])
    pod = await ended(kubelet, uid)
    assert await log_of(kubelet, pod, "c") == "now"


async def test_projections_follow_their_sources_atomically(kubelet: Kubelet) -> None:
    """ "Mounted ConfigMaps are updated automatically": what a container reads is all old or all new."""
    manifests = load(whole("""
restartPolicy: Never
volumes: [{name: v, projected: {sources: [{configMap: {name: settings}}, {secret: {name: keys}}]}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}, {name: v, mountPath: /fixed, subPath: colour}],
   command: [sh, -c, 'while [ $(cat /v/size) = 10 ]; do sleep 0.01; done; cat /v/colour /v/token /fixed']}
"""))  # fmt: skip
    [pod] = manifests.pods
    uid = (await kubelet.add_pod(pod, [*manifests.config_maps, *manifests.secrets])).metadata.uid
    await reached(kubelet, uid, {"containerStatuses[c].state.running": ...})
    meta = ObjectMeta(name="keys", namespace="default")
    kubelet.objects.update([Secret(metadata=meta, type="Opaque", data={"token": b"rotated"})])
    meta = ObjectMeta(name="settings", namespace="default")
    kubelet.objects.update([ConfigMap(metadata=meta, data={"colour": "green", "size": "11"})])
    pod = await ended(kubelet, uid)
    # A subPath does not follow (the same page: "will not receive updates").
    assert await log_of(kubelet, pod, "c") == "greenrotatedblue"


async def test_an_immutable_object_does_not_change(kubelet: Kubelet) -> None:
    """https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-immutable"""
    meta = ObjectMeta(name="fixed", namespace="default")
    kubelet.objects.update([ConfigMap(metadata=meta, data={"k": "1"}, immutable=True)])
    with pytest.raises(KubeletError, match="field is immutable when `immutable` is set"):
        kubelet.objects.update([ConfigMap(metadata=meta, data={"k": "2"}, immutable=True)])


async def test_a_named_volume_is_kept_and_removed_by_hand(kubelet: Kubelet) -> None:
    """A claim outlives its pods, and cannot be removed under them ("Storage Object in Use Protection")."""
    name = f"data-{os.getpid()}"
    spec = """
restartPolicy: Never
volumes: [{name: v, persistentVolumeClaim: {claimName: %s}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}],
   command: [sh, -c, 'cat /v/x; echo one >> /v/x; mkdir -p /v/made; sleep %d']}
"""
    [pod] = load(spec.replace("cat /v/x", "true") % (name, 1000)).pods
    first = (await kubelet.add_pod(pod)).metadata.uid
    await there(f"{kubelet.config.state_dir}/volumes/default_{name}/made")
    with pytest.raises(KubeletError, match="is in use by the pod"):
        remove_local_volume(kubelet.config, "default", name)
    await kubelet.delete_pod(first, 0)
    await kubelet.wait_removed(first)
    [pod] = load(spec % (name, 0), name="second").pods
    second = (await kubelet.add_pod(pod)).metadata.uid
    pod = await ended(kubelet, second)
    assert await log_of(kubelet, pod, "c") == "one\n"
    await kubelet.delete_pod(second, 0)
    await kubelet.wait_removed(second)
    assert [each.claim for each in local_volumes(kubelet.config) if each.claim == name] == [name]
    remove_local_volume(kubelet.config, "default", name)
    assert [each for each in local_volumes(kubelet.config) if each.claim == name] == []


@pytest.mark.parametrize(
    ("propagation", "seen"), [("None", "no\n"), ("HostToContainer", "yes\n"), ("Bidirectional", "yes\n")]
)
async def test_mounts_of_the_host_propagate(
    kubelet: Kubelet, shared_directory: str, propagation: str, seen: str
) -> None:
    """https://kubernetes.io/docs/concepts/storage/volumes/#mount-propagation"""
    [pod] = load(f"""
restartPolicy: Never
volumes: [{{name: v, hostPath: {{path: {shared_directory}, type: Directory}}}}]
containers:
- {{c: c, securityContext: {{privileged: true}},
    volumeMounts: [{{name: v, mountPath: /v, mountPropagation: {propagation}}}],
    command: [sh, -c, 'touch /v/started; while [ ! -e /v/go ]; do sleep 0.01; done;
       test -e /v/later/file && echo yes || echo no; mkdir /v/mine; mount -t tmpfs none /v/mine; touch /v/mine/file']}}
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    await there(f"{shared_directory}/started")
    os.mkdir(f"{shared_directory}/later")
    subprocess.run(["mount", "-t", "tmpfs", "none", f"{shared_directory}/later"], check=True)
    open(f"{shared_directory}/later/file", "w").close()
    open(f"{shared_directory}/go", "w").close()
    pod = await ended(kubelet, uid)
    assert await log_of(kubelet, pod, "c") == seen
    assert os.path.exists(f"{shared_directory}/mine/file") == (propagation == "Bidirectional")


@pytest.fixture
async def shared_directory(tmp_path: Any) -> AsyncIterator[str]:
    """A shared mount, as /var/lib/kubelet is on a node."""
    path = str(tmp_path)
    subprocess.run(["mount", "--bind", path, path], check=True)
    subprocess.run(["mount", "--make-shared", path], check=True)
    yield path
    subprocess.run(["umount", "-R", "-l", path], check=True)


async def test_an_emptyDir_beyond_its_limit_evicts(kubelet: Kubelet) -> None:
    """pkg/kubelet/eviction: `Usage of EmptyDir volume "v" exceeds the limit "1Mi". `; looked at every 10 seconds."""
    from podlite.kubelet.housekeeping import Housekeeping

    [pod] = load("""
terminationGracePeriodSeconds: 0
volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}],
   command: [sh, -c, 'head -c 2000000 /dev/zero > /v/big; touch /v/done; sleep 1000']}
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    await there(f"{kubelet.config.state_dir}/pods/{uid}/volumes/kubernetes.io~empty-dir/v/done")
    await Housekeeping(kubelet, kubelet._workers, kubelet._pleg, kubelet._parts).check_storage()
    pod = await ended(kubelet, uid)
    assert (pod.status.phase, pod.status.reason) == ("Failed", "Evicted")
    assert pod.status.message == 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    assert "Evicted" in {each.reason for each in kubelet.events(uid)}


async def test_an_image_as_a_volume(kubelet: Kubelet, runtime: Runtime, tmp_path: Any) -> None:
    """KEP-4639: read-only, with subPath; a reference that cannot be had keeps the container waiting."""
    archive = tmp_path / "data.tar"
    files = {"dir/": Dir(), "dir/file": File("from the image\n")}
    docker_archive(archive, [TestImage("example.com/data:1", [files])])
    await load_archive(runtime, str(archive))
    spec = """
restartPolicy: Never
volumes: [{name: v, image: {reference: "%s", pullPolicy: Never}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}, {name: v, mountPath: /s, subPath: dir}],
   command: [sh, -c, 'cat /v/dir/file /s/file; touch /v/x 2>/dev/null || echo read-only']}
"""
    [pod] = load(spec % "example.com/data:1").pods
    uid = (await kubelet.add_pod(pod)).metadata.uid
    pod = await ended(kubelet, uid)
    assert await log_of(kubelet, pod, "c") == "from the image\nfrom the image\nread-only\n"
    [pod] = load(spec % "example.com/none:1", name="second").pods
    uid = (await kubelet.add_pod(pod)).metadata.uid
    await reached(kubelet, uid, {"containerStatuses[c].state.waiting.reason": "ErrImageNeverPull"})


async def load_archive(runtime: Runtime, path: str) -> None:
    from podlite.runtime.image.load import load_images

    await anyio.to_thread.run_sync(load_images, runtime.image_store, path)


async def test_users_and_groups_of_the_image(kubelet: Kubelet, runtime: Runtime, tmp_path: Any) -> None:
    """KEP-3619: Merge takes the groups that the image's /etc/group gives to the user, Strict does not."""
    archive = tmp_path / "users.tar"
    files = busybox_files("sh", "id") | {
        "etc/": Dir(),
        "etc/passwd": File("root:x:0:0::/:/bin/sh\nalice:x:1234:5678::/:/bin/sh\n"),
        "etc/group": File("root:x:0:\nalice:x:5678:\nimage:x:50000:alice\n"),
    }
    docker_archive(archive, [TestImage("example.com/users:1", [files], config={"User": "alice"})])
    await load_archive(runtime, str(archive))
    spec = """
restartPolicy: Never
securityContext: {supplementalGroups: [60000], supplementalGroupsPolicy: %s%s}
containers:
- {name: c, image: "example.com/users:1", imagePullPolicy: Never, command: [sh, -c, "id -u; id -g; id -G"]}
"""
    for policy, groups in (("Merge", {5678, 50000, 60000}), ("Strict", {5678, 60000})):
        [pod] = load(spec % (policy, ""), name=policy.lower()).pods
        pod = await ended(kubelet, (await kubelet.add_pod(pod)).metadata.uid)
        [uid, gid, found] = (await log_of(kubelet, pod, "c")).splitlines()
        assert (uid, gid) == ("1234", "5678")
        assert {int(each) for each in found.split()} == groups
        user = pod.status.container_statuses[0].user
        assert user is not None
        assert user.linux is not None
        assert (user.linux.uid, user.linux.gid) == (1234, 5678)
        assert set(user.linux.supplemental_groups) == groups
    [pod] = load(spec % ("Merge", ", runAsNonRoot: true"), name="non-root").pods
    uid = (await kubelet.add_pod(pod)).metadata.uid
    pod = await reached(kubelet, uid, {"containerStatuses[c].state.waiting.reason": "CreateContainerConfigError"})
    waiting = pod.status.container_statuses[0].state.waiting
    assert waiting is not None
    assert waiting.message.startswith(
        "container has runAsNonRoot and image has non-numeric user (alice), cannot verify user is non-root"
    )


async def test_a_changed_image_restarts_the_container_in_place(kubelet: Kubelet) -> None:
    """ "Pod update": the container is killed and started again, in the same sandbox, and counted."""
    [pod] = load("""
terminationGracePeriodSeconds: 1
containers: [{c: c, command: [sleep, "1000"]}]
""").pods  # fmt: skip
    added = await kubelet.add_pod(pod)
    uid = added.metadata.uid
    pod = await reached(kubelet, uid, {"phase": "Running"})
    before = kubelet.runtime_status(uid).sandboxes[0].id
    container = structs.replace(pod.spec.containers[0], image="podlite.local/host")
    changed = structs.replace(pod, spec=structs.replace(pod.spec, containers=[container]))
    await kubelet.update_pod(changed)
    with anyio.fail_after(60), kubelet.watch_events() as events:
        async for event in events:
            if event.reason == "Killing":
                break
    assert event.message == "Container c definition changed, will be restarted"
    assert kubelet.runtime_status(uid).sandboxes[0].id == before
