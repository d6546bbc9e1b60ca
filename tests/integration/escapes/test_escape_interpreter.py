"""/proc/self/exe (CVE-2019-5736): the interpreter that puts a process into a container is a program of the host's.

An image can have it run once more, with code of its own choosing: a script, or a link, that says `#!/proc/self/exe`,
and libraries or a loader of the image's. Until it is replaced by execve, /proc/self/exe stands for the host's file,
and an O_PATH descriptor of it can be opened for writing once nothing executes it any more (ETXTBSY until then).
What keeps the file safe is that podlite is executed from a read-only mount, which belongs to no mount namespace.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from podlite.cri.errors import StartError
from podlite.cri.types import Mount, NamespaceMode, NamespaceOption
from podlite.runtime.service import Runtime
from tests.support.containers import container_config, finished, start
from tests.support.escapes import (
    UIDS,
    USR,
    WAYS,
    ask_this_way,
    config_for,
    hostile_image,
    pod,
    script,
    told,
    with_capabilities,
)
from tests.support.images import File, Symlink

pytestmark = [pytest.mark.root, pytest.mark.anyio]

INTERPRETER = os.path.realpath(sys.executable)

# What is tried on the file that `exe` is a link to; `later` runs when nothing executes it any more.
ATTACK = r"""
import ctypes, errno, json, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)

def name(code):
    return errno.errorcode.get(code, str(code))

def attempt(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return name(error.errno)
    return "ok"

def raw(function, *arguments):
    return "ok" if function(*arguments) >= 0 else name(ctypes.get_errno())

def long(*numbers):
    return [ctypes.c_ulong(each) if isinstance(each, int) else each for each in numbers]

def write(path, flags):
    os.close(os.open(path, flags))

def mount_writable(fd):
    attributes = (ctypes.c_uint64 * 4)(0, 1, 0, 0)  # attr_clr: MOUNT_ATTR_RDONLY
    return raw(libc.syscall, *long(442, fd, b"", 0x1000, attributes, 32))

def attack(path):
    found = {}
    fd = os.open(path, os.O_PATH)
    found["append"] = attempt(write, path, os.O_WRONLY | os.O_APPEND)
    found["truncate"] = attempt(write, path, os.O_RDWR | os.O_TRUNC)
    found["truncate(2)"] = attempt(os.truncate, path, 0)
    found["chmod"] = attempt(os.chmod, path, 0o777)
    found["chown"] = attempt(os.chown, path, os.getuid(), os.getgid())
    found["utime"] = attempt(os.utime, path)
    found["link"] = attempt(lambda: os.link(path, "/tmp/linked", follow_symlinks=True))
    found["xattr"] = attempt(os.setxattr, path, "user.hostile", b"1")
    found["remount"] = mount_writable(fd)
    found["bind"] = raw(libc.mount, path.encode(), b"/tmp/bound", None, ctypes.c_ulong(4096), None)
    tree = libc.syscall(*long(428, fd, b"", 0x1000 | 1))  # open_tree(AT_EMPTY_PATH | OPEN_TREE_CLONE)
    found["open_tree"] = name(ctypes.get_errno()) if tree < 0 else mount_writable(tree)
    if found["open_tree"] == "ok":
        found["open_tree"] = attempt(write, "/proc/self/fd/%d" % tree, os.O_WRONLY)
    read, signal = os.pipe()
    if os.fork() == 0:
        # CVE-2019-5736 itself: keep the file by an O_PATH descriptor, wait until nobody executes it, and write.
        os.setsid()
        if os.fork() == 0:
            os.set_inheritable(fd, True)
            code = "import os,sys,time\n" \
                   "for _ in range(20):\n" \
                   "    try:\n" \
                   "        os.open('/proc/self/fd/%d', os.O_WRONLY); print('ok'); break\n" \
                   "    except OSError as error:\n" \
                   "        if error.errno != 26: print(error.errno); break\n" \
                   "    time.sleep(0.01)\n" \
                   "else: print('busy')\n" % fd
            os.dup2(signal, 1)
            os.execv("/usr/bin/python3", ["python3", "-I", "-S", "-c", code])
        os._exit(0)
    os.close(signal)
    answer = b""
    while chunk := os.read(read, 100):
        answer += chunk
    found["later"] = answer.decode().strip()
    return found
"""
EACCES, EROFS = "13", "30"


@pytest.fixture(autouse=True)
def interpreter_is_unchanged() -> object:
    """Its bytes, its attributes, and those of what it is made of."""
    before = _state()
    yield
    assert _state() == before


def _state() -> list[object]:
    status = os.stat(INTERPRETER)
    with open(INTERPRETER, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return [digest, status.st_mode, status.st_uid, status.st_ctime_ns, os.listxattr(INTERPRETER)]


def _harmless(found: dict[str, str]) -> None:
    # ETXTBSY ("busy") comes before EROFS, and the spawner, the shim and this very test execute the file: what remains
    # without that is in test_an_interpreter_that_nobody_executes_any_more.
    assert found.pop("later") in ("busy", EROFS, EACCES)
    for what, answer in found.items():
        assert answer in ("EROFS", "ETXTBSY", "EPERM", "EACCES", "EINVAL", "EXDEV", "ENOTSUP", "EBADF"), what


def _python_volumes() -> list[Mount]:
    """The interpreter's own libraries in the container, so that it runs there; what else could be is the image's."""
    if sys.base_prefix == "/usr":
        return []
    return [Mount(container_path=sys.base_prefix, host_path=sys.base_prefix, readonly=True)]


@pytest.mark.parametrize("capabilities", [(), ("SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH")], ids=["default", "more"])
@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("way", ["start", "exec", "shared-pid", "host-pid"])
async def test_a_script_that_is_interpreted_by_its_own_parent(
    runtime: Runtime, tmp_path: Path, way: str, uid: int, capabilities: tuple[str, ...]
) -> None:
    """Also with CAP_SYS_ADMIN: the read-only mount is in no namespace, so nobody can make it writable."""
    os.chmod(tmp_path, 0o755)
    body = f"#!/proc/self/exe\n{ATTACK}\nprint('\\n@' + json.dumps(attack('/proc/self/exe')), flush=True)\n"
    image = hostile_image(
        runtime, {"hostile": script(body), "tmp/bound": File(), "entry": Symlink("hostile")}, tmp_path
    )
    modes = {"shared-pid": NamespaceMode.POD, "host-pid": NamespaceMode.NODE}
    options = NamespaceOption(pid=modes.get(way, NamespaceMode.CONTAINER))
    fields = {
        "run_as_user": uid,
        "namespace_options": options,
        "mounts": [USR, *_python_volumes()],
        "capabilities": with_capabilities(*capabilities),
        "env": {"PYTHONHOME": sys.base_prefix},
        "image": image,
    }
    async with pod(runtime, pid=options.pid) as id:
        if way == "exec":
            waiting = await start(runtime, id, container_config(["/bin/sleep", "1000"], **fields))
            result = await runtime.exec_sync(waiting, ["/entry"])
            output = (result.stdout + result.stderr).decode()
        else:
            done = await finished(runtime, await start(runtime, id, container_config(["/entry"], **fields)))
            output = done.stdout + done.stderr
    assert told(output), output
    _harmless(told(output)[0])


LOADER = r"""
/* Stands where the interpreter's ELF header asks for its loader: it is started with /proc/self/exe still the host's. */
#define WRONLY 1
#if defined(__x86_64__)
static long call(long n, long a, long b, long c, long d) {
    long r;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return r;
}
enum { OPENAT = 257, WRITE = 1, EXIT = 60 };
#else
static long call(long n, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = n; register long x0 __asm__("x0") = a; register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c; register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
enum { OPENAT = 56, WRITE = 64, EXIT = 93 };
#endif
static void hex(long value) {
    char text[20]; int at = 20;
    text[--at] = '\n';
    do { text[--at] = '0' + value % 10; value /= 10; } while (value);
    call(WRITE, 1, (long)(text + at), 20 - at, 0);
}
void _start(void) {
    static const char path[] = "/proc/self/exe";
    long fd = call(OPENAT, -100, (long)path, WRONLY, 0);
    hex(fd < 0 ? -fd : 0);
    call(EXIT, 42, 0, 0, 0);
    for (;;) { }
}
"""


@pytest.mark.parametrize("uid", UIDS)
async def test_a_hostile_loader(runtime: Runtime, tmp_path: Path, uid: int) -> None:
    """The interpreter is linked dynamically, so that its very first instruction is the image's."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    loader = _elf_interpreter(INTERPRETER)
    if not loader:
        pytest.skip("the interpreter is linked statically and has no loader")
    (tmp_path / "loader.c").write_text(LOADER)
    built = tmp_path / "loader"
    subprocess.run(
        [
            compiler,
            "-O1",
            "-nostdlib",
            "-static-pie",
            "-fPIE",
            "-fno-stack-protector",
            "-o",
            built,
            tmp_path / "loader.c",
        ],
        check=True,
    )
    parents = {}
    for depth in range(1, loader.strip("/").count("/") + 1):
        parents["/".join(loader.strip("/").split("/")[:depth]) + "/"] = None
    files = {
        # The image's own /lib64, not a link into the host's /usr.
        **{path.rstrip("/"): None for path in parents},
        loader.strip("/"): File(built.read_bytes(), mode=0o755),
        "hostile": script("#!/proc/self/exe\n"),
    }
    image = hostile_image(runtime, files, tmp_path)
    async with pod(runtime) as id:
        done = await finished(
            runtime, await start(runtime, id, container_config(["/hostile"], image=image, run_as_user=uid))
        )
    assert done.code == 42, done.stdout + done.stderr
    # A plain user is refused for lack of permission, before anything else is asked.
    assert done.stdout.strip() in ({"26", EROFS} if uid == 0 else {"13", "26", EROFS})


def _elf_interpreter(path: str) -> str:
    """PT_INTERP of a 64-bit ELF file (elf(5)); "" if there is none."""
    raw = Path(path).read_bytes()
    offset = int.from_bytes(raw[32:40], "little")
    size, count = int.from_bytes(raw[54:56], "little"), int.from_bytes(raw[56:58], "little")
    for index in range(count):
        header = raw[offset + index * size : offset + (index + 1) * size]
        if int.from_bytes(header[:4], "little") == 3:
            start_at, length = int.from_bytes(header[8:16], "little"), int.from_bytes(header[32:40], "little")
            return raw[start_at : start_at + length].rstrip(b"\0").decode()
    return ""


async def test_programs_replaced_by_the_interpreter_before_an_exec(runtime: Runtime, tmp_path: Path) -> None:
    """As the vulnerability was shown: /bin/sh of a running container becomes `#!/proc/self/exe`."""
    image = hostile_image(runtime, {"opt/sh": File(b"#!/proc/self/exe\n", mode=0o755)}, tmp_path)
    async with pod(runtime) as id:
        waiting = await start(runtime, id, config_for(["/bin/sleep", "1000"], image))
        # Whether the interpreter finds its libraries in there depends on the machine; the shim is as well as before.
        await runtime.exec_sync(waiting, ["/opt/sh", "-c", "true"])
        assert (await runtime.exec_sync(waiting, ["/bin/true"])).exit_code == 0


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("way", WAYS)
async def test_what_a_program_is_after_its_start(runtime: Runtime, way: str, uid: int) -> None:
    """Once it runs, /proc/self/exe is the container's own program, which in the embedded image is a read-only view."""
    source = """
    tell(exe=os.readlink("/proc/self/exe"), write=opened("/usr/bin/true", os.O_WRONLY | os.O_APPEND),
         new=opened("/usr/new", os.O_WRONLY | os.O_CREAT))
    """
    found = await ask_this_way(runtime, way, source, run_as_user=uid)
    assert found["exe"] == os.path.realpath("/usr/bin/python3")
    # A plain user is refused by the permissions already.
    assert {found["write"], found["new"]} <= ({"EROFS"} if uid == 0 else {"EROFS", "EACCES"})


async def test_the_host_interpreter_is_not_reached_through_the_spawner(runtime: Runtime) -> None:
    """With the host's pids in sight: other processes' programs need CAP_SYS_PTRACE even to be named."""
    async with pod(runtime) as id:
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        pids = [shim.pid, runtime.spawner.pid]
        for uid in UIDS:
            source = f"""
            tell(exe=[attempt(os.readlink, f"/proc/{{pid}}/exe") for pid in {pids}],
                 write=[opened(f"/proc/{{pid}}/exe", os.O_WRONLY) for pid in {pids}])
            """
            found = await ask_this_way(runtime, "host-pid", source, run_as_user=uid)
            assert found == {"exe": ["EACCES"] * 2, "write": ["EACCES"] * 2}


async def test_the_mount_of_the_interpreter_is_in_no_namespace(runtime: Runtime) -> None:
    """mount_setattr(2) on it is EINVAL for root of the host, too, and no mount table has it."""
    async with pod(runtime) as id:
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        for pid in (shim.pid, runtime.spawner.pid):
            with pytest.raises(OSError, match=r"Read-only file system|Text file busy"):
                os.close(os.open(f"/proc/{pid}/exe", os.O_WRONLY))
            with open(f"/proc/{pid}/mountinfo") as file:
                assert not [line for line in file if line.split()[4] == INTERPRETER]
            from podlite.linux.syscalls import AT_EMPTY_PATH, MOUNT_ATTR_RDONLY, mount_setattr

            fd = os.open(f"/proc/{pid}/exe", os.O_PATH)
            try:
                with pytest.raises(OSError, match="Invalid argument"):
                    mount_setattr(fd, "", AT_EMPTY_PATH, attr_clr=MOUNT_ATTR_RDONLY)
            finally:
                os.close(fd)


async def test_an_interpreter_that_nobody_executes_any_more(
    tmp_path: Path, short_tmp: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait that CVE-2019-5736 needs, with a copy of the interpreter that only the spawner executes: the very file
    can be written to by its path, and not by what /proc/self/exe was."""
    from podlite.runtime.shim.launch import launch

    copy = tmp_path / "python"
    shutil.copy2(INTERPRETER, copy)
    monkeypatch.setattr(sys, "executable", str(copy))
    channel, pid = launch(short_tmp, [])
    try:
        assert b"ready" in channel.recv(4096)
        kept = os.open(f"/proc/{pid}/exe", os.O_PATH)
        assert os.path.samestat(os.fstat(kept), os.stat(copy))
    finally:
        channel.close()
        os.waitpid(pid, 0)
    try:
        os.close(os.open(copy, os.O_WRONLY))
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
            with pytest.raises(OSError, match="Read-only file system"):
                os.open(f"/proc/self/fd/{kept}", flags)
        for change in (os.utime, lambda path: os.chmod(path, 0o777), lambda path: os.setxattr(path, "user.x", b"1")):
            with pytest.raises(OSError, match="Read-only file system"):
                change(f"/proc/self/fd/{kept}")
    finally:
        os.close(kept)


async def test_running_and_refused_programs_leave_no_busy_file(runtime: Runtime) -> None:
    """A start that fails leaves no process behind that still executes the interpreter inside."""
    async with pod(runtime) as id:
        container = await start(runtime, id, container_config(["/bin/sleep", "1000"]))
        for _ in range(10):
            with pytest.raises(StartError):
                await runtime.exec_sync(container, ["/no/such/program"])
        result = await runtime.exec_sync(container, ["/bin/sh", "-c", "ls -l /proc/[0-9]*/exe 2>/dev/null"])
        assert INTERPRETER.encode() not in result.stdout
