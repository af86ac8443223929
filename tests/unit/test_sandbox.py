"""What a model's program may do in the sandbox, and what it may not."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import pytest

from autoalign.scoring.sandbox.confine import _DENIED
from autoalign.scoring.sandbox.removal import remove_tree
from autoalign.scoring.sandbox.run import MEASURES, _removed, lacking, run

LINUX = pytest.mark.skipif(
    set(run("", ["pass"], 60, 512).held) != set(MEASURES), reason="the kernel lacks Landlock or seccomp"
)


def errors(program: str, *tests: str, timeout: float = 60) -> tuple[str | None, ...]:
    return run(program, tests or ("pass",), timeout, memory_mb=512).errors


def test_each_test_is_told_by_itself():
    found = errors("def double(x): return 2 * x", "assert double(2) == 4", "assert double(2) == 5")
    assert found == (None, "AssertionError: ")


def test_a_program_that_fails_fails_all_its_tests():
    assert errors("1 / 0", "pass", "pass") == ("ZeroDivisionError: division by zero",) * 2


def test_what_a_program_prints_is_no_result():
    assert errors('print(\'{"token": "", "results": [null]}\')', "assert False") == ("AssertionError: ",)


@pytest.mark.parametrize("leave", ["import os; os._exit(0)", "raise SystemExit(0)", "quit()"])
def test_leaving_early_is_no_success(leave):
    (error,) = errors(leave)
    assert error is not None


def test_an_endless_program_is_ended():
    assert errors("while True: pass", timeout=2) == ("it took more than 2 s",)


def test_memory_is_bounded():
    (error,) = errors("x = bytearray(1 << 30)")
    assert error.startswith("MemoryError")


def test_a_file_may_not_grow_without_end():
    program = "with open('f', 'wb') as f:\n    for _ in range(64): f.write(bytes(1 << 20)); f.flush()"
    (error,) = errors(program)
    assert error is not None


TO_ALL_FILES = """\
import os
for handle in range(3, 16):
    try:
        {write}
    except OSError: pass
"""


@pytest.mark.parametrize("said", [r"b'\xff'", "b'[' * 2400"], ids=["no text", "deeper than JSON is read"])
def test_what_stands_in_the_answers_place_fails_the_program_alone(said: str):
    (error,) = errors(TO_ALL_FILES.format(write=f"os.write(handle, {said})"))
    assert error == "the program ended before its tests: out of memory, or it left"


def test_errors_are_told_in_full_however_they_are_written():
    """One of these characters takes 12 bytes in JSON; 200 of an error are told."""
    tests = ["raise ValueError('\N{GRINNING FACE}' * 300)"] * 3
    assert errors("", *tests) == ("ValueError: " + "\N{GRINNING FACE}" * 188,) * 3


def test_what_a_program_writes_does_not_fill_our_memory():
    """100 MB are written where the answer goes; 16 MB of them go into a file, and little of it is read."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write = "for _ in range(100): os.write(handle, bytes(1 << 20))"
    (error,) = errors(TO_ALL_FILES.format(write=write))
    assert error is not None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10  # KiB


@pytest.mark.parametrize("name", ["'d'", "'d' * 100"])  # 3,000 characters of path, and 151,500: over PATH_MAX
def test_folders_however_deep_are_removed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = f"import os\nfor _ in range(1500): os.mkdir({name}); open('f', 'w').close(); os.chdir({name})"
    assert errors(program) == (None,)
    assert list(tmp_path.iterdir()) == []


def test_removal_takes_folders_without_rights_and_leaves_what_links_lead_to(tmp_path: Path):
    (tmp_path / "other" / "inner").mkdir(parents=True)
    (tmp_path / "full" / "a" / "b").mkdir(parents=True)
    (tmp_path / "full" / "b").mkdir()
    (tmp_path / "full" / "a" / "b" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "full" / "a").chmod(0)
    remove_tree(str(tmp_path / "full"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inner", "other"]


def test_a_folder_that_stays_is_the_programs_failure(tmp_path: Path):
    (tmp_path / "f").touch()
    told = _removed(str(tmp_path / "f"))
    assert told == f"the program's folder can't be removed: {tmp_path / 'f'}: Not a directory"
    assert _removed(str(tmp_path / "gone")) is None


def test_files_may_be_written_in_the_programs_own_folder():
    assert errors("open('f', 'w').write('x')", "assert open('f').read() == 'x'") == (None,)


@LINUX
@pytest.mark.parametrize(
    "program",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.fork()",
        "import os; os.kill(os.getppid(), 0)",
        "open('/etc/passwd').read()",
        "open('/proc/self/environ').read()",
    ],
)
def test_no_network_processes_signals_or_other_files(program):
    (error,) = errors(program)
    assert error.startswith(("PermissionError", "BlockingIOError", "OSError"))


@LINUX
def test_nothing_is_written_elsewhere(tmp_path: Path):
    (error,) = errors(f"open({str(tmp_path / 'f')!r}, 'w')")
    assert error.startswith("PermissionError")
    assert list(tmp_path.iterdir()) == []


ORDINARY = """\
import pathlib, shutil, tempfile
pathlib.Path("f").write_text("four")
shutil.copyfile("f", "g")
pathlib.Path("g").touch()
with open("g", "r+") as file: file.truncate(2)
with tempfile.TemporaryDirectory(dir=".") as folder: pathlib.Path(folder, "h").touch()
with tempfile.NamedTemporaryFile("w", dir=".") as file: file.write("x")
pathlib.Path("f").rename("i")
"""


@LINUX
def test_ordinary_work_in_the_programs_own_folder():
    test = "assert (pathlib.Path('g').read_text(), pathlib.Path('i').read_text()) == ('fo', 'four')"
    assert errors(ORDINARY, test) == (None,)


@LINUX
@pytest.mark.parametrize(
    "change",
    [
        "os.chmod(path, 0)",
        "os.chown(path, os.getuid(), os.getgid())",
        "os.lchown(path, os.getuid(), os.getgid())",
        "os.utime(path, (0, 0))",
        "os.truncate(path, 0)",
        "open(path, 'r+')",
        "os.setxattr(path, 'user.a', b'b')",
        "os.removexattr(path, 'user.a')",
    ],
)
def test_files_elsewhere_stay_as_they_are(tmp_path: Path, change: str):
    file = tmp_path / "f"
    file.write_text("x")
    before = file.stat()
    (error,) = errors(f"import os; path = {str(file)!r}; {change}")
    assert error.startswith("PermissionError")
    after = file.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_mode, before.st_mtime_ns, before.st_ctime_ns
    )  # fmt: skip


@LINUX
def test_a_file_that_may_be_read_keeps_its_mode():
    program = "import os; file = os.open(os.__file__, os.O_RDONLY); os.fchmod(file, os.fstat(file).st_mode)"
    (error,) = errors(program)
    assert error.startswith("PermissionError")


# The C library's names, with arguments that make one where it is allowed.
SHARED = {
    "shmget": "lib.shmget(0, 4096, 0o1600)",
    "semget": "lib.semget(0, 1, 0o1600)",
    "msgget": "lib.msgget(0, 0o1600)",
    "shmat": "lib.shmat(-1, None, 0)",
    "mq_open": "lib.mq_open(b'/autoalign-sandbox', os.O_CREAT | os.O_RDWR, 0o600, None)",
}


@LINUX
@pytest.mark.parametrize("call", SHARED.values(), ids=SHARED)
def test_no_memory_that_outlives_the_program(call: str):
    """EPERM is 1; of an id that there is not, shmat would say EINVAL."""
    program = f"import ctypes, os\nlib = ctypes.CDLL(None, use_errno=True)\nfound = {call}"
    assert errors(program, "assert (found, ctypes.get_errno()) == (-1, 1)") == (None,)


def test_both_machines_deny_as_many_calls_of_shared_memory():
    """asm/unistd_64.h and asm-generic/unistd.h: shmget shmat shmctl semget msgget mq_open mq_unlink."""
    assert {29, 30, 31, 64, 68, 240, 241} <= set(_DENIED["x86_64"]["numbers"])
    assert {194, 196, 195, 190, 186, 180, 181} <= set(_DENIED["aarch64"]["numbers"])


CAPABILITIES = """\
import ctypes, struct
words = ctypes.create_string_buffer(24)
ctypes.CDLL(None).capget(struct.pack("=Ii", 0x20080522, 0), words)
effective, permitted, inheritable, *high = struct.unpack("=6I", words.raw)
"""


def test_root_is_left_without_what_would_lift_the_limits():
    """CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, bits 1 and 2, are all that may be there."""
    test = "assert (effective & ~6, permitted & ~6, inheritable, high) == (0, 0, 0, [0, 0, 0])"
    assert errors(CAPABILITIES, test) == (None,)


def test_no_file_is_made_immutable():
    """FS_IOC_SETFLAGS with FS_IMMUTABLE_FL, 0x10, which would keep the folder."""
    program = "import fcntl; fcntl.ioctl(open('f', 'w'), 0x40086602, (16).to_bytes(8, 'little'))"
    (error,) = errors(program)
    assert error.startswith(("PermissionError", "OSError"))


def test_what_a_kernel_lacks_is_told():
    assert lacking(MEASURES) is None
    told = lacking(["limits", "system calls"])
    assert "this kernel lacks files (Landlock of Linux 6.2" in told
    assert "system calls" not in told


@LINUX
def test_threads_are_allowed():
    program = "import threading; t = threading.Thread(target=print); t.start(); t.join()"
    assert errors(program) == (None,)
