"""What a model's program may do in the sandbox, and what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoalign.scoring.sandbox.run import MEASURES, lacking, run

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


def test_what_a_kernel_lacks_is_told():
    assert lacking(MEASURES) is None
    told = lacking(["limits", "system calls"])
    assert "this kernel lacks files (Landlock of Linux 6.2" in told
    assert "system calls" not in told


@LINUX
def test_threads_are_allowed():
    program = "import threading; t = threading.Thread(target=print); t.start(); t.join()"
    assert errors(program) == (None,)
