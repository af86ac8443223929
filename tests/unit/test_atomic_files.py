import signal
import subprocess
import sys

import pytest

from autoalign.atomic_files import replacing, write_text

KILLED = """
import os, signal, sys
from pathlib import Path
from autoalign.atomic_files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of the n")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_takes_the_place_of_the_old_one(tmp_path):
    file = tmp_path / "new folder" / "a.txt"
    for text in ("first", "zweitens: ü"):
        write_text(file, text)
        assert file.read_text(encoding="utf-8") == text
    assert list(file.parent.iterdir()) == [file]


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(OSError, match="disk full"), replacing(file) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert (file.read_text(), list(tmp_path.iterdir())) == ("old", [file])


def test_a_killed_process_leaves_the_old_file_whole(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(file)], check=False)
    assert (done.returncode, file.read_text()) == (-signal.SIGKILL, "old")
