"""Capabilities, no_new_privs, setuid programs, keys, and what one process may do to another.

CVE-2022-29162: containers had inheritable capabilities, which programs with inheritable file capabilities made real.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
from pathlib import Path

import pytest

from podlite.cri.types import Capability, ProfileType, SecurityProfile
from podlite.linux import capabilities
from podlite.runtime.service import Runtime
from tests.support.containers import container_config, start
from tests.support.escapes import (
    LOOK_INTO,
    UIDS,
    USER,
    WAYS,
    Canary,
    ask,
    ask_this_way,
    config_for,
    hostile_image,
    not_denied,
    pod,
    probe,
    said,
)
from tests.support.images import File

pytestmark = [pytest.mark.root, pytest.mark.anyio]

SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# The default set of runc, Docker and containerd: AUDIT_WRITE, CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, MKNOD,
# NET_BIND_SERVICE, NET_RAW, SETFCAP, SETGID, SETPCAP, SETUID and SYS_CHROOT.
DEFAULT, NONE = "00000000a80425fb", "0" * 16
NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 10, 12, 13

STATUS = f"""
tell(**{{each: status(each) for each in {SETS!r}}}, nnp=status("NoNewPrivs"), seccomp=status("Seccomp"),
     keepcaps=libc.prctl(7, 0, 0, 0, 0), securebits=libc.prctl(27, 0, 0, 0, 0), groups=os.getgroups(),
     uids=os.getresuid(), gids=os.getresgid())
"""


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("way", WAYS)
async def test_the_default_capabilities(runtime: Runtime, way: str, uid: int) -> None:
    found = await ask_this_way(runtime, way, STATUS, run_as_user=uid, run_as_group=uid)
    held = DEFAULT if uid == 0 else NONE
    assert [found[each] for each in SETS] == [NONE, held, held, DEFAULT, NONE]
    assert (found["keepcaps"], found["securebits"]) == (0, 0)
    assert (found["uids"], found["gids"]) == ([uid] * 3, [uid] * 3)
    # The group itself is in the list (CRI, supplemental_groups), and no group of podlite's.
    assert set(found["groups"]) <= {uid}
    assert (found["nnp"], found["seccomp"]) == ("0", "0")


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("way", ["start", "exec"])
@pytest.mark.parametrize(
    ("given", "bounding", "ambient"),
    [
        (Capability(drop_capabilities=["ALL"]), 0, 0),
        (Capability(drop_capabilities=["ALL"], add_capabilities=["NET_BIND_SERVICE"]), 1 << NET_BIND_SERVICE, 0),
        (Capability(add_ambient_capabilities=["NET_RAW"], drop_capabilities=["ALL"]), 0, 0),
        (Capability(add_ambient_capabilities=["NET_RAW"]), int(DEFAULT, 16), 1 << NET_RAW),
    ],
    ids=["none", "one", "ambient dropped", "ambient"],
)
async def test_capabilities_that_were_asked_for(
    runtime: Runtime, way: str, uid: int, given: Capability, bounding: int, ambient: int
) -> None:
    found = await ask_this_way(runtime, way, STATUS, run_as_user=uid, capabilities=given)
    if given.add_ambient_capabilities and given.drop_capabilities:
        # What "ALL" takes away and another list names again: of the runtime's to decide, but the same in every set.
        bounding = ambient = int(found["CapBnd"], 16)
        assert bounding in (0, 1 << NET_RAW)
    held = bounding if uid == 0 else ambient
    assert [int(found[each], 16) for each in SETS] == [ambient, held, held, bounding, ambient]


async def test_a_privileged_container_has_what_podlite_has(runtime: Runtime) -> None:
    found = await ask(runtime, STATUS, privileged=True)
    everything = f"{capabilities.held():016x}"
    assert [found[each] for each in SETS] == [NONE, everything, everything, everything, NONE]


def _file_capability(*, permitted: int = 0, inheritable: int = 0) -> dict[str, bytes]:
    """security.capability of revision 2 with the effective bit (include/uapi/linux/capability.h, vfs_cap_data)."""
    return {"security.capability": struct.pack("<5I", 0x02000001, permitted, inheritable, 0, 0)}


@pytest.fixture
def programs(runtime: Runtime, tmp_path: Path) -> str:
    """An image with programs that give more rights than those have who execute them."""
    python = Path(os.path.realpath("/usr/bin/python3")).read_bytes()
    files = {
        "opt/setuid": File(python, mode=0o6755),
        "opt/raw": File(python, mode=0o755, xattrs=_file_capability(permitted=1 << NET_RAW)),
        "opt/admin": File(python, mode=0o755, xattrs=_file_capability(permitted=1 << NET_ADMIN)),
        "opt/inherit": File(python, mode=0o755, xattrs=_file_capability(inheritable=1 << NET_RAW | 1 << NET_ADMIN)),
        "opt/plain": File(python, mode=0o755),
    }
    return hostile_image(runtime, files, tmp_path)


RUN_ALL = f"""
import subprocess
code = (
    "import os, json; lines = dict(line.split(':', 1) for line in open('/proc/self/status'));"
    "print(json.dumps([os.geteuid(), os.getegid(), *[lines[each].strip() for each in {SETS!r}]]))"
)
found = {{}}
for each in ("setuid", "raw", "admin", "inherit", "plain"):
    try:
        done = subprocess.run(["/opt/" + each, "-I", "-S", "-c", code], capture_output=True, text=True)
        found[each] = json.loads(done.stdout)
    except OSError as error:
        found[each] = name(error.errno)
tell(**found)
"""


async def _run_all(runtime: Runtime, image: str, **fields: object) -> dict[str, list[object]]:
    async with pod(runtime) as id:
        config = config_for(probe(RUN_ALL), image, run_as_user=USER, run_as_group=USER, **fields)
        return (await said(runtime, await start(runtime, id, config)))[0]


async def test_setuid_and_file_capabilities_give_no_more_than_the_bounding_set(runtime: Runtime, programs: str) -> None:
    """A plain user may become the container's root by a program of the image; that is what the image says. It does
    not get what the container was not given, and inheritable file capabilities give nothing (CVE-2022-29162)."""
    found = await _run_all(runtime, programs)
    assert found["setuid"] == [0, 0, NONE, DEFAULT, DEFAULT, DEFAULT, NONE]
    raw = f"{1 << NET_RAW:016x}"
    assert found["raw"] == [USER, USER, NONE, raw, raw, DEFAULT, NONE]
    # execve(2): EPERM if a program would not get all of its effective capabilities.
    assert found["admin"] == "EPERM"
    assert found["inherit"] == [USER, USER, NONE, NONE, NONE, DEFAULT, NONE]
    assert found["plain"] == [USER, USER, NONE, NONE, NONE, DEFAULT, NONE]


async def test_no_new_privs_means_it(runtime: Runtime, programs: str) -> None:
    """allowPrivilegeEscalation: false."""
    found = await _run_all(runtime, programs, no_new_privs=True)
    assert found.pop("admin") == "EPERM"
    for answer in found.values():
        assert answer == [USER, USER, NONE, NONE, NONE, DEFAULT, NONE]
    for way in WAYS:
        assert (await ask_this_way(runtime, way, STATUS, run_as_user=USER, no_new_privs=True))["nnp"] == "1"


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("way", ["start", "exec", "shared-pid"])
async def test_a_seccomp_profile_holds_whatever_the_way_in(runtime: Runtime, way: str, uid: int) -> None:
    """RuntimeDefault: a filter, and with it no keyctl, no new user namespace, no mounts of one's own."""
    source = (
        STATUS
        + """
numbers = {"x86_64": (250, 272, 321), "aarch64": (219, 97, 280)}[os.uname().machine]
tell(seccomp=status("Seccomp"), keyctl=syscall(numbers[0], 0, -3, 0), userns=syscall(numbers[1], 0x10000000),
     bpf=syscall(numbers[2], 0, 0, 0))
"""
    )
    profile = SecurityProfile(profile_type=ProfileType.RuntimeDefault)
    found = await ask_this_way(runtime, way, source, run_as_user=uid, seccomp=profile)
    assert found["seccomp"] == "2"
    assert {found["keyctl"], found["userns"], found["bpf"]} <= {"EPERM", "ENOSYS"}


NESTED = """
uid = os.getuid()
unshared = "ok" if libc.unshare(0x10000000 | 0x00020000 | 0x20000000) == 0 else name(ctypes.get_errno())
if unshared != "ok":
    tell(unshared=unshared)
    sys.exit()
pid = os.fork()
if pid == 0:
    attributes = (ctypes.c_uint64 * 4)(0, 1, 0, 0)
    tell(
        unshared=unshared,
        effective=status("CapEff"),
        proc=mount("proc", "/tmp", "proc"),
        sysfs=mount("sysfs", "/tmp", "sysfs"),
        unmask="ok" if libc.umount2(b"/proc/interrupts", 2) == 0 else name(ctypes.get_errno()),
        uncover="ok" if libc.umount2(b"/proc/sys", 2) == 0 else name(ctypes.get_errno()),
        remount=mount("", "/proc/sys", "", 0x1020),
        setattr=syscall(442, -100, b"/proc/sys", 0, attributes, 32),
        core=opened("/proc/sys/kernel/core_pattern", os.O_WRONLY),
        usr=[mount("", "/usr", "", 0x1020), opened("/usr/new", os.O_WRONLY | os.O_CREAT)],
        null=[attempt(os.chmod, "/proc/interrupts", 0o777)],
        node=attempt(os.mknod, "/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(254, 0)),
    )
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("uid", UIDS)
async def test_a_user_namespace_of_ones_own_uncovers_nothing(runtime: Runtime, uid: int) -> None:
    """Without a seccomp profile everybody may make a user namespace and be root in it, with mounts to change. The
    kernel locks what was there before (mount_namespaces(7)), and mounts no second /proc while one is masked."""
    found = await ask(runtime, NESTED, run_as_user=uid)
    if found["unshared"] != "ok":
        pytest.skip("this kernel lets nobody make user namespaces")
    assert found["effective"] == f"{capabilities.every():016x}"
    assert (found["proc"], found["sysfs"]) == ("EPERM", "EPERM")
    assert (found["unmask"], found["uncover"]) == ("EINVAL", "EINVAL")
    assert (found["remount"], found["setattr"]) == ("EPERM", "EPERM")
    # Its uid is nobody's until a map is written, so some of it fails for that reason alone.
    assert found["core"] in ("EROFS", "EACCES")
    assert found["usr"][0] == "EPERM"
    assert found["usr"][1] in ("EROFS", "EACCES")
    assert found["null"][0] in ("EROFS", "EPERM")
    assert found["node"] == "EPERM"


# --- keys ----------------------------------------------------------------------------------------

ADD_KEY, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[platform.machine()]
JOIN, SEARCH, READ, SESSION = 1, 10, 11, -3


@pytest.fixture
def secret_key() -> int:
    """A key in the session keyring of whoever starts podlite; its serial number."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(KEYCTL, JOIN, None) < 0:
        pytest.skip("this kernel has no keyrings")
    serial = int(libc.syscall(ADD_KEY, b"user", b"podlite-secret", b"secret", ctypes.c_size_t(6), SESSION))
    assert serial > 0
    return serial


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("way", WAYS)
async def test_keys_of_whoever_started_podlite_are_out_of_reach(
    secret_key: int, runtime: Runtime, way: str, uid: int
) -> None:
    """The session keyring is a new one. (The user keyring of uid 0 is the host's root's, as uid 0 is: it takes a user
    namespace, or RuntimeDefault, which allows no keyctl.)"""
    source = f"""
    buffer = ctypes.create_string_buffer(64)
    tell(
        found=syscall({KEYCTL}, {SEARCH}, {SESSION}, b"user", b"podlite-secret", 0),
        read=syscall({KEYCTL}, {READ}, {secret_key}, buffer, 64),
        session=syscall({KEYCTL}, 0, {SESSION}, 1) > 0,
        keys=read("/proc/keys"),
    )
    """
    found = await ask_this_way(runtime, way, source, run_as_user=uid)
    assert found["found"] == "ENOKEY"
    assert found["read"] in ("EACCES", "ENOKEY")
    assert found["keys"] == ""


async def test_the_shim_itself_has_none_of_them(secret_key: int, runtime: Runtime) -> None:
    """A container goes on without a keyring of its own where there is no quota for one; it then has the shim's."""
    async with pod(runtime) as id:
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        # /proc/keys lists what the reader may see: root sees the keyrings, and of whom is in /proc/key-users only;
        # so it is asked for by exhausting the quota, which makes the join in the container fail.
        maximum = Path("/proc/sys/kernel/keys/root_maxkeys")
        before = maximum.read_text()
        users = [line.split() for line in Path("/proc/key-users").read_text().splitlines()]
        used = next(int(fields[3].split("/")[0]) for fields in users if fields[0] == "0:")
        maximum.write_text(str(max(1, used - 1)))
        try:
            source = f'tell(found=syscall({KEYCTL}, {SEARCH}, {SESSION}, b"user", b"podlite-secret", 0))'
            config = container_config(probe(source))
            assert (await said(runtime, await start(runtime, id, config)))[0] == {"found": "ENOKEY"}
        finally:
            maximum.write_text(before)


# --- other processes -----------------------------------------------------------------------------


@pytest.mark.parametrize("uid", UIDS)
async def test_processes_of_the_host_do_not_exist_inside(runtime: Runtime, canary: Canary, uid: int) -> None:
    async with pod(runtime) as id:
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        # The smallest numbers are also processes of the container: the tests may be pid 1 of one themselves.
        outside = [pid for pid in (shim.pid, runtime.spawner.pid, os.getpid()) if pid > 5]
        for way in ("start", "exec", "shared-pid"):
            source = f"""
            tell(pids=sorted(int(each) for each in os.listdir("/proc") if each.isdigit()),
                 kill=[attempt(os.kill, pid, 0) for pid in {outside}])
            """
            found = await ask_this_way(runtime, way, source, run_as_user=uid)
            assert len(found["pids"]) <= 3
            assert found["kill"] == ["ESRCH"] * len(outside)


@pytest.mark.parametrize("uid", UIDS)
async def test_podlites_own_processes_with_the_hosts_pids_in_sight(runtime: Runtime, canary: Canary, uid: int) -> None:
    """hostPID: a plain user can do nothing to them. Root cannot look into them without CAP_SYS_PTRACE; it may kill
    them, as every process of the host (CAP_KILL is among the default capabilities): that is what hostPID means."""
    async with pod(runtime) as id:
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        await start(runtime, id, container_config(["/bin/sleep", "1000"]))
        for pid in (shim.pid, runtime.spawner.pid):
            source = f"{LOOK_INTO}\ntell(kill=attempt(os.kill, {pid}, 0), **look({pid}, '{canary.directory}/secret'))"
            found = await ask_this_way(runtime, "host-pid", source, run_as_user=uid)
            assert found.pop("kill") == ("ok" if uid == 0 else "EPERM")
            assert not_denied(found) == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
async def test_a_plain_user_signals_nobody_of_podlites(runtime: Runtime, number: int) -> None:
    async with pod(runtime) as id:
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        pids = [shim.pid, runtime.spawner.pid, os.getpid()]
        source = f"tell(kill=[attempt(os.kill, pid, {int(number)}) for pid in {pids}])"
        assert await ask_this_way(runtime, "host-pid", source, run_as_user=USER) == {"kill": ["EPERM"] * 3}


async def test_what_root_can_do_to_the_host_by_hostpid(runtime: Runtime, canary: Canary) -> None:
    """To processes that have no more rights than the container, everything: root may become their user (CAP_SETUID),
    and a process of the same user without capabilities may be looked into, its root directory included. hostPID is
    for who may do that; the Baseline policy forbids it."""
    victim = os.fork()
    if victim == 0:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        os.execv("/bin/sleep", ["sleep", "1000"])
    try:
        source = f"""
        os.setresgid({USER}, {USER}, {USER})
        os.setresuid({USER}, {USER}, {USER})
        tell(root=attempt(os.listdir, "/proc/{victim}/root/proc"))
        """
        found = await ask_this_way(runtime, "host-pid", source)
        assert found == {"root": "ok"}
    finally:
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)


async def test_core_dumps_and_limits_of_others(runtime: Runtime) -> None:
    """prlimit(2), sched_setaffinity(2) and the like on a process of podlite's."""
    async with pod(runtime) as id:
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        source = f"""
        import resource
        tell(limit=attempt(resource.prlimit, {shim.pid}, resource.RLIMIT_NOFILE, (1, 1)),
             affinity=attempt(os.sched_setaffinity, {shim.pid}, {{0}}),
             priority=attempt(os.setpriority, os.PRIO_PROCESS, {shim.pid}, 19),
             oom=opened("/proc/{shim.pid}/oom_score_adj", os.O_WRONLY))
        """
        found = await ask_this_way(runtime, "host-pid", source, run_as_user=USER)
        assert set(found.values()) <= {"EPERM", "EACCES"}
        # Root needs CAP_SYS_RESOURCE and CAP_SYS_NICE for others than its own user's; these processes are its own
        # user's, so hostPID without a user namespace lets it: stated, as above.
        found = await ask_this_way(runtime, "host-pid", source.replace("(1, 1)", "(65536, 65536)"))
        assert found["limit"] in ("EPERM", "ok")


async def test_capabilities_do_not_reach_beyond_the_container(runtime: Runtime) -> None:
    """What the default ones could be used for: ownership of files that are not in the container, raw I/O, time."""
    source = """
    numbers = {"x86_64": (303, 304), "aarch64": (264, 265)}[os.uname().machine]
    handle, mount_id = ctypes.create_string_buffer((128).to_bytes(4, "little"), 136), ctypes.c_int()
    tell(
        settime=attempt(time.clock_settime, time.CLOCK_REALTIME, time.time()),
        hostname=attempt(socket.sethostname, "hostile"),
        reboot="ok" if libc.reboot(0) == 0 else name(ctypes.get_errno()),
        chroot=attempt(os.chroot, "/proc/1/root"),
        handle=syscall(numbers[0], -100, b"/etc/hosts", handle, ctypes.byref(mount_id), 0),
        open_by_handle=syscall(numbers[1], os.open("/etc/hosts", os.O_RDONLY), handle, 0),
        swapon="ok" if libc.swapon(b"/tmp", 0) == 0 else name(ctypes.get_errno()),
        klog=libc.klogctl(3, ctypes.create_string_buffer(16), 16),
        nice=attempt(os.nice, -5),
    )
    """
    found = await ask(runtime, source)
    # Shocker (2014): open_by_handle_at needs CAP_DAC_READ_SEARCH, or an inode number of the host's would do.
    assert (found["handle"], found["open_by_handle"]) == (0, "EPERM")
    assert {found["settime"], found["hostname"], found["reboot"], found["swapon"]} == {"EPERM"}
    assert found["chroot"] == "ok"  # into itself
    assert found["nice"] in ("EPERM", "EACCES")
