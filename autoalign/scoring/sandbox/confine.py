"""What the process of a model's program may do: limits, system calls, files. Linux only.

Root's capabilities go with the limits: with them a program could raise its own, or make files immutable.

It is imported without the package. Each measure is taken where the kernel has it; `confine` returns
the names of those that hold.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
from typing import Any

# System calls that are answered with EPERM, by machine: network, processes, other processes, the kernel,
# memory that no limit counts and that outlives the process, and what changes files without writing to them,
# which Landlock lets through (truncate until Linux 6.2).
_DENIED: dict[str, dict[str, Any]] = {
    "x86_64": {
        "arch": 0xC000003E,
        "numbers": (
            *(41, 42, 43, 49, 50, 288, 44, 46, 307),  # socket connect accept bind listen accept4 send*
            *(57, 58, 59, 322),  # fork vfork execve execveat
            *(62, 200, 234, 129, 297, 424),  # kill tkill tgkill rt_*sigqueueinfo pidfd_send_signal
            *(101, 310, 311, 438, 434),  # ptrace process_vm_* pidfd_getfd pidfd_open
            *(425, 426, 427, 321, 298, 165, 166, 272, 308, 250, 248, 249),  # io_uring bpf perf mount ns keys
            *(29, 30, 31, 64, 65, 66, 220, 68, 69, 70, 71, 240, 241),  # shm* sem* msg* mq_open mq_unlink
            *(76, 90, 91, 268, 452, 92, 93, 94, 260),  # truncate, chmod and chown in all their forms
            *(132, 235, 261, 280),  # utime utimes futimesat utimensat
            *(188, 189, 190, 463, 197, 198, 199, 466, 469),  # *setxattr* *removexattr* file_setattr
        ),
        "clone": 56,
        "clone3": 435,
    },
    "aarch64": {
        "arch": 0xC00000B7,
        "numbers": (
            *(198, 203, 202, 200, 201, 242, 206, 211, 269),
            *(221, 281),
            *(129, 130, 131, 138, 240, 424),
            *(117, 270, 271, 438, 434),
            *(425, 426, 427, 280, 241, 40, 39, 97, 268, 219, 217, 218),
            *(194, 196, 195, 190, 193, 191, 192, 186, 189, 188, 187, 180, 181),
            *(45, 52, 53, 452, 54, 55),
            *(88,),
            *(5, 6, 7, 463, 14, 15, 16, 466, 469),
        ),
        "clone": 220,
        "clone3": 435,
    },
}
_LD_W, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_CLONE_THREAD = 0x10000
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ, _READ_FILE, _WRITE_V1 = 0b1101, 0b101, 0b1111111110010
_TRUNCATE_ABI = 3  # before it, a file that may be read can be emptied by opening it
_X32 = 0x40000000
# _LINUX_CAPABILITY_VERSION_3; root keeps CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, to read another's Python.
_CAPABILITIES, _KEPT = 0x20080522, 0b110

libc = ctypes.CDLL(None, use_errno=True)


def confine(folder: str, cpu_seconds: int, memory_bytes: int, file_bytes: int) -> list[str]:
    """Confine this process for good; `folder` is the one that it may write to.

    Args:
        folder: absolute path.
        cpu_seconds: of processor time.
        memory_bytes: of address space.
        file_bytes: size of the largest file that may be written.
    """
    for kind, limit in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(kind, (limit, limit))
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        return ["limits"]
    held = ["limits"] if _drop_capabilities() else []
    if _landlock(folder):
        held.append("files")
    if _seccomp():
        held.append("system calls")
    return held


def _drop_capabilities() -> bool:
    """Take from root what would lift the limits; other users have nothing to lose."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITIES, 0))
    words = ctypes.create_string_buffer(24)  # effective, permitted, inheritable: the low 32, then the high
    if libc.capget(header, words):
        return False
    effective, permitted, *_ = struct.unpack("=6I", words.raw)
    words.raw = struct.pack("=6I", effective & _KEPT, permitted & _KEPT, 0, 0, 0, 0)
    return bool(libc.capset(header, words) == 0)


def _seccomp() -> bool:
    machine = _DENIED.get(platform.machine())
    if machine is None:
        return False
    rules = _filter(machine)
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    handed = Program(len(rules), ctypes.addressof(program))
    return bool(libc.prctl(_SECCOMP, _FILTER, ctypes.byref(handed), 0, 0) == 0)


def _filter(machine: dict[str, Any]) -> list[tuple[int, int, int, int]]:
    """Classic BPF: (code, jump if true, jump if false, operand)."""
    rules = [(_LD_W, 0, 0, 4), (_JEQ, 1, 0, machine["arch"]), (_RET, 0, 0, _KILL), (_LD_W, 0, 0, 0)]
    rules += [(_JGE, 0, 1, _X32), (_RET, 0, 0, _KILL)]
    for number in machine["numbers"]:
        rules += [(_JEQ, 0, 1, number), (_RET, 0, 0, _EPERM)]
    # The C library falls back to clone, whose flags can be looked at: threads only.
    rules += [(_JEQ, 0, 1, machine["clone3"]), (_RET, 0, 0, _ENOSYS)]
    rules += [(_JEQ, 0, 3, machine["clone"]), (_LD_W, 0, 0, 16), (_JSET, 1, 0, _CLONE_THREAD)]
    return [*rules, (_RET, 0, 0, _EPERM), (_RET, 0, 0, _ALLOW)]


def _landlock(folder: str) -> bool:
    """Read Python and the system's libraries, read and write `folder`, and nothing else.

    Returns:
        whether that holds in full.
    """
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    handled = (
        _READ | _WRITE_V1 | (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= _TRUNCATE_ABI else 0)
    )
    attributes = ctypes.create_string_buffer(struct.pack("=Q", handled))
    rules = libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(8), 0)
    if rules < 0:
        return False
    readable = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/null"]
    readable += [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path]
    for path in dict.fromkeys(readable):
        _allow(rules, path, _READ)
    _allow(rules, folder, handled)
    done = bool(libc.syscall(_LANDLOCK_RESTRICT, rules, 0) == 0)
    os.close(rules)
    return done and version >= _TRUNCATE_ABI


def _allow(rules: int, path: str, access: int) -> None:
    if not path or not os.path.exists(path):  # noqa: PTH110 (the sandbox imports as little as can be)
        return
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    given = access if os.path.isdir(path) else access & _READ_FILE  # noqa: PTH112 (as above)
    rule = ctypes.create_string_buffer(struct.pack("=Qi", given, handle))
    libc.syscall(_LANDLOCK_ADD, rules, 1, rule, 0)
    os.close(handle)
