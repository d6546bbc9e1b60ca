"""Limits are the host's to set: what a container sees of its cgroup, and what it could do with it.

CVE-2022-0492: release_agent of a v1 hierarchy is run by the kernel, as root of the host.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from podlite.cri.types import LinuxContainerResources
from podlite.runtime.service import Runtime
from tests.support.containers import container_config, start
from tests.support.escapes import UIDS, WAYS, ask, ask_this_way, pod, probe, said, with_capabilities

pytestmark = [pytest.mark.root, pytest.mark.anyio]


@pytest.fixture(autouse=True)
def needs_cgroups(runtime: Runtime) -> None:
    if runtime.cgroups is None:
        pytest.skip("this machine has no cgroups to use")


LOOK = """
files = []
for parent, directories, names in os.walk("/sys/fs/cgroup"):
    files += [os.path.join(parent, each) for each in names]
    if parent.count("/") > 6:
        directories.clear()
written = {path: opened(path, os.O_WRONLY) for path in files}
made = {}
for parent in ["/sys/fs/cgroup"] + ["/sys/fs/cgroup/" + each for each in os.listdir("/sys/fs/cgroup")]:
    if os.path.isdir(parent):
        made[parent] = attempt(os.mkdir, parent + "/escape")
tell(
    own=sorted({line.strip().split(":", 2)[2] for line in open("/proc/self/cgroup")}),
    one=sorted({line.strip().split(":", 2)[2] for line in open("/proc/1/cgroup")}),
    files=len(files),
    written={path: answer for path, answer in written.items() if answer not in ("EROFS", "EACCES")},
    made={path: answer for path, answer in made.items() if answer not in ("EROFS", "EACCES")},
    release_agent=[path for path in files if path.endswith("/release_agent")],
    mounts=sorted(
        line.split()[3] for line in open("/proc/self/mountinfo") if line.split(" - ")[1].split()[0].startswith("cgroup")
    ),
    options=[
        line.split()[5] for line in open("/proc/self/mountinfo") if line.split(" - ")[1].split()[0].startswith("cgroup")
    ],
    remount=mount("", "/sys/fs/cgroup", "", 0x1020),
    new=mount("cgroup", "/tmp", "cgroup", 0, "memory"),
)
"""


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("way", [each for each in WAYS if each != "host-pid"])
async def test_a_container_sees_its_own_cgroup_and_cannot_write(runtime: Runtime, way: str, uid: int) -> None:
    """In a cgroup namespace of its own: the path on the host is `/`, for it and in its mounts."""
    found = await ask_this_way(runtime, way, LOOK, run_as_user=uid)
    assert found["own"] == ["/"]
    if way != "shared-pid":
        assert found["one"] == ["/"]
    assert found["files"] > 10
    assert found["written"] == {}
    assert found["made"] == {}
    assert found["release_agent"] == []
    assert set(found["mounts"]) == {"/"}
    assert all("ro" in options.split(",") for options in found["options"])
    assert (found["remount"], found["new"]) == ("EPERM", "EPERM")


async def test_nothing_of_the_hosts_path_in_pid_one_of_a_shared_namespace(runtime: Runtime) -> None:
    """The pod's pid 1 is in no container's cgroup; what it shows is relative to the reader's (cgroup_namespaces(7))."""
    found = await ask_this_way(runtime, "shared-pid", LOOK)
    for path in found["one"]:
        assert path == "/" or path.startswith("/..")


async def test_a_limit_holds_against_its_container(runtime: Runtime) -> None:
    """Root in the container, with the default capabilities: raising what it has been given is refused."""
    assert runtime.cgroups is not None
    if "pids" in runtime.cgroups.missing:
        pytest.skip("no pids controller")
    source = """
    import glob
    paths = glob.glob("/sys/fs/cgroup/**/pids.max", recursive=True) + glob.glob("/sys/fs/cgroup/**/memory.*limit*", recursive=True)
    def write(path):
        with open(path, "w") as file:
            file.write("max" if path.endswith(".max") else "-1")
    children = []
    try:
        for _ in range(64):
            pid = os.fork()
            if pid == 0:
                time.sleep(1000)
            children.append(pid)
        forked = "ok"
    except OSError as error:
        forked = name(error.errno)
    for pid in children:
        os.kill(pid, 9)
    tell(answers=sorted({attempt(write, path) for path in paths}), forked=forked)
    """
    resources = LinuxContainerResources(unified={"pids.max": "32"}, memory_limit_in_bytes=200 << 20)
    try:
        found = await ask(runtime, source, resources=resources)
    except Exception:  # a machine whose pids controller is v1 takes no unified settings
        found = await ask(runtime, source, resources=LinuxContainerResources(memory_limit_in_bytes=200 << 20))
        assert found["answers"] == ["EROFS"]
        return
    assert found["answers"] == ["EROFS"]


async def test_release_agent_with_cap_sys_admin(runtime: Runtime) -> None:
    """CVE-2022-0492, and the older way with CAP_SYS_ADMIN: a hierarchy that the container mounts anew begins at its
    own cgroup, which is not the hierarchy's root, and only that has a release_agent."""
    source = """
    answers = {}
    for controller in open("/proc/self/cgroup").read().split():
        names = controller.split(":")[1]
        if not names:
            continue
        os.makedirs("/tmp/" + names, exist_ok=True)
        option = "none," + names if names.startswith("name=") else names
        mounted = mount("cgroup", "/tmp/" + names, "cgroup", 0, option)
        path = f"/tmp/{names}/release_agent"
        answers[names] = [mounted, os.path.exists(path)]
    tell(answers=answers)
    """
    found = await ask(runtime, source, capabilities=with_capabilities("SYS_ADMIN"))
    for controller, (mounted, agent) in found["answers"].items():
        assert mounted in ("ok", "EBUSY", "EINVAL"), controller
        assert agent is False, controller


async def test_a_user_namespace_of_ones_own_and_the_limits(runtime: Runtime) -> None:
    """Root without a seccomp profile can unshare user, mount and cgroup namespaces and mount v1 hierarchies anew,
    writable, as in every runtime without a user namespace: its uid is that of the files. It can lift limits of its
    own cgroup so, where the controllers are v1; it gets neither devices (devices.allow asks for CAP_SYS_ADMIN on the
    host) nor a release_agent. RuntimeDefault, which forbids unshare, is what prevents it.
    """
    source = """
    uid = os.getuid()
    if libc.unshare(0x10000000 | 0x00020000 | 0x02000000) != 0:
        tell(unshared=name(ctypes.get_errno()))
        sys.exit()
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {uid} 1")):
        try:
            open(f"/proc/self/{file}", "w").write(text)
        except OSError:
            pass
    os.mkdir("/tmp/devices")
    mounted = mount("cgroup", "/tmp/devices", "cgroup", 0, "devices")
    def write(path, text):
        with open(path, "w") as file:
            file.write(text)
    tell(
        unshared="ok",
        mounted=mounted,
        allow=attempt(write, "/tmp/devices/devices.allow", "a") if mounted == "ok" else "",
        release_agent=os.path.exists("/tmp/devices/release_agent"),
        notify=attempt(write, "/tmp/devices/notify_on_release", "1") if mounted == "ok" else "",
    )
    """
    found = await ask(runtime, source)
    if found["unshared"] == "ok":
        assert found["release_agent"] is False
        assert found["allow"] in ("EPERM", "EACCES", "")


MOUNT_ALL = """
uid, gid = os.getuid(), os.getgid()
read_end, write_end = os.pipe()
child = os.fork()
if child == 0:
    # The namespace's maps are written by the parent: whoever has CAP_SETUID may map everybody, not only itself.
    os.close(write_end)
    libc.unshare(UNSHARE)
    tell(unshared=True)
    os.read(read_end, 1)
    found = {}
    for line in open("/proc/self/cgroup").read().split():
        names = line.split(":")[1]
        if not names:
            continue
        at = "/tmp/" + names.replace("=", "_")
        os.makedirs(at)
        option = "none," + names if names.startswith("name=") else names
        mounted = mount("cgroup", at, "cgroup", 0, option)
        found[names] = {
            "mounted": mounted,
            "others": [each for each in os.listdir(at) if os.path.isdir(f"{at}/{each}")],
            "agent": os.path.exists(at + "/release_agent"),
        }
        if mounted == "ok":
            def write(path, text):
                with open(path, "w") as file:
                    file.write(text)
            victim = f"{at}/{VICTIM}"
            found[names]["join"] = attempt(write, victim + "/cgroup.procs", "0")
            found[names]["freeze"] = attempt(write, victim + "/freezer.state", "FROZEN")
    tell(**found)
    os._exit(0)
os.close(read_end)
time.sleep(0.2)
for file, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
    full = f"0 0 4294967295" if file != "setgroups" else "allow"
    for each in (full, text):
        try:
            with open(f"/proc/{child}/{file}", "w") as opened_file:
                opened_file.write(each)
            break
        except OSError:
            pass
os.close(write_end)
os.waitpid(child, 0)
"""
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWCGROUP = 0x10000000, 0x00020000, 0x02000000


@pytest.fixture
def victim(runtime: Runtime) -> Iterator[str]:
    """A cgroup of somebody else's in every v1 hierarchy, with a process in it; its name."""
    from podlite.linux.cgroup_mounts import hierarchies

    name = f"podlite-test-victim-{os.getpid()}"
    mounts = [each.mount for each in hierarchies() if each.version == 1 and each.writable]
    for each in mounts:
        os.mkdir(f"{each}/{name}")
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if os.path.exists(f"{each}/{name}/{setting}"):
                Path(f"{each}/{name}/{setting}").write_text(Path(f"{each}/{setting}").read_text())
    yield name
    for each in mounts:
        os.rmdir(f"{each}/{name}")


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("privileged_way", [False, True], ids=["user namespace", "CAP_SYS_ADMIN"])
async def test_hierarchies_that_are_mounted_anew_begin_at_the_container(
    runtime: Runtime, victim: str, uid: int, privileged_way: bool
) -> None:
    """Everybody who can make a user namespace can mount the v1 hierarchies, and root's uid is that of their files.

    What is seen then is what the container's cgroup namespace begins with: in a hierarchy in which it had no cgroup
    of its own, all of the host's, with other containers to freeze and limit, and a release_agent.
    """
    flags = CLONE_NEWNS | (0 if privileged_way else CLONE_NEWUSER | CLONE_NEWCGROUP)
    fields = {"capabilities": with_capabilities("SYS_ADMIN")} if privileged_way else {}
    source = f"UNSHARE = {flags}\nVICTIM = {victim!r}\n{MOUNT_ALL}"
    async with pod(runtime) as id:
        container = await start(runtime, id, container_config(probe(source), run_as_user=uid, **fields))
        found = (await said(runtime, container, 2))[1]
    for names, answer in found.items():
        assert answer["others"] == [], names
        assert answer["agent"] is False, names
        assert {answer.get("join", "ENOENT"), answer.get("freeze", "ENOENT")} <= {"ENOENT"}, names
    for state in ("/sys/fs/cgroup/freezer",):
        if os.path.exists(f"{state}/{victim}/freezer.state"):
            assert Path(f"{state}/{victim}/freezer.state").read_text() == "THAWED\n"


# Root of a container, in namespaces of its own, with v1's hierarchy HIERARCHY on /tmp/own.
MOUNT_OWN = """
def write(path, text):
    with open(path, "w") as file:
        file.write(text)
ready, map_it = os.pipe(), os.pipe()
child = os.fork()
if child:
    os.read(ready[0], 1)
    for file in ("uid_map", "gid_map"):
        write(f"/proc/{child}/{file}", "0 0 4294967295")
    os.write(map_it[1], b"x")
    os.waitpid(child, 0)
    sys.exit()
libc.unshare(0x10000000 | 0x00020000 | 0x02000000)
os.write(ready[1], b"x")
os.read(map_it[0], 1)
os.mkdir("/tmp/own")
mounted = mount("cgroup", "/tmp/own", "cgroup", 0, HIERARCHY)
"""


def needs_v1(controller: str) -> None:
    if not os.path.exists(f"/sys/fs/cgroup/{controller}/tasks"):
        pytest.skip(f"the {controller} controller is not on v1 here")


async def test_a_container_that_freezes_itself_can_be_ended(runtime: Runtime) -> None:
    """SIGKILL does not end what v1's freezer has frozen, neither there nor in a cgroup below it."""
    needs_v1("freezer")
    source = f"""
    HIERARCHY = "freezer"
    {textwrap.indent(MOUNT_OWN, "    ").strip()}
    os.makedirs("/tmp/own/a/b")
    if os.fork() == 0:
        write("/tmp/own/a/b/tasks", "0")
        tell(mounted=mounted)
        write("/tmp/own/a/b/freezer.state", "FROZEN")
        time.sleep(1000)
    time.sleep(0.2)
    tell(below=read("/tmp/own/a/b/freezer.state"))
    write("/tmp/own/freezer.state", "FROZEN")
    time.sleep(1000)
    """
    async with pod(runtime) as id:
        container = await start(runtime, id, container_config(probe(source)))
        answers = await said(runtime, container, 2)
        assert answers[0]["mounted"] == "ok"
        stored = runtime.store.containers[container]
        assert runtime.cgroups is not None
        own = Path(runtime.cgroups.freezer(stored.cgroup))
        with anyio.fail_after(60):
            while (own / "freezer.state").read_text() != "FROZEN\n":
                await anyio.sleep(0.01)
        assert (own / "a/b/freezer.state").read_text() == "FROZEN\n"
        await runtime.stop_container(container, 0)
        assert stored.exit_code == 137
    assert not own.exists()


async def test_a_container_cannot_leave_cgroups_behind(runtime: Runtime) -> None:
    """However deep it nests its own: deeper than paths can be long, and than a function can call itself."""
    needs_v1("pids")
    source = f"""
    HIERARCHY = "pids"
    {textwrap.indent(MOUNT_OWN, "    ").strip()}
    os.chdir("/tmp/own")
    depth = 0
    while depth < 2500:
        os.mkdir("d" * 8)
        os.chdir("d" * 8)
        depth += 1
    tell(mounted=mounted, depth=depth)
    time.sleep(1000)
    """
    async with pod(runtime) as id:
        container = await start(runtime, id, container_config(probe(source)))
        answers = await said(runtime, container)
        assert answers[0] == {"mounted": "ok", "depth": 2500}
        own = f"/sys/fs/cgroup/pids{runtime.store.containers[container].cgroup}"
        assert os.path.exists(f"{own}/dddddddd")
    assert not os.path.exists(own)


async def test_processes_cannot_leave_their_cgroup(runtime: Runtime) -> None:
    """What is killed with the container is everything that it ever started."""
    source = """
    import glob
    def write(path):
        with open(path, "w") as file:
            file.write("0")
    paths = [each for file in ("tasks", "cgroup.procs") for each in glob.glob("/sys/fs/cgroup/**/" + file, recursive=True)]
    answers = sorted({attempt(write, path) for path in paths})
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            libc.prctl(1, 0, 0, 0, 0)
            tell(answers=answers)
            time.sleep(1000)
        os._exit(0)
    time.sleep(1000)
    """
    async with pod(runtime) as id:
        container = await start(runtime, id, container_config(probe(source)))
        assert (await said(runtime, container))[0]["answers"] == ["EROFS"]
        stored = runtime.store.containers[container]
        members = {int(each) for each in os.listdir("/proc") if each.isdigit() and _cgroup_of(each).endswith(container)}
        assert stored.pid in members
        assert len(members) >= 2
        await runtime.stop_container(container, 0)
        assert not [pid for pid in members if _cgroup_of(str(pid)).endswith(container)]


def _cgroup_of(pid: str) -> str:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


async def test_no_cgroup_of_the_host_is_writable_by_privileged_less_root(runtime: Runtime) -> None:
    """Through no mount at all: there is none but those that are listed above."""
    source = """
    kinds = {line.split(" - ")[1].split()[0] for line in open("/proc/self/mountinfo")}
    writable = [
        line.split()[4] for line in open("/proc/self/mountinfo")
        if line.split(" - ")[1].split()[0] in ("cgroup", "cgroup2", "sysfs") and "rw" in line.split()[5].split(",")
    ]
    tell(kinds=sorted(kinds), writable=writable)
    """
    found = await ask(runtime, source)
    assert found["writable"] == []
    assert set(found["kinds"]) <= {
        "overlay", "proc", "tmpfs", "devpts", "mqueue", "sysfs", "cgroup", "cgroup2", "ext4", "xfs", "btrfs", "devtmpfs",
    }  # fmt: skip
