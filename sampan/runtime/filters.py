"""Compile a seccomp profile once, instead of at every container's start.

crun compiles a profile anew for each container, which takes longer (20 ms) than all else it does.
It also takes a ready program, by annotation. This is libseccomp, which crun links to anyway,
called in-process; where it is missing, crun gets the profile itself.

The program answers ENOSYS to system calls that are newer than the profile, as runc's does: C
libraries then fall back to older calls, while EPERM would look like a refusal.
"""

from __future__ import annotations

import base64
import ctypes
import os
import platform
import struct
from collections.abc import Collection, Mapping
from functools import cache, lru_cache
from typing import Any

from .seccomp import default_profile

BPF_ANNOTATION = "run.oci.seccomp_bpf_data"

_ALLOW = 0x7FFF_0000
_ERRNO = 0x0005_0000
_ENOSYS = 38
_ATTRIBUTE_OPTIMIZE = 8
_BINARY_TREE = 2
_UNKNOWN = -1
_EEXIST = -17
_COMPARE = {"SCMP_CMP_NE": 1, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}

# AUDIT_ARCH_* of the machines whose call numbers are checked; x32 calls have a bit set.
_AUDIT_ARCH = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_X32_BIT = 0x4000_0000
_PROGRAM_BYTES_MAX = 4096 * 8


class _Argument(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("value_two", ctypes.c_uint64),
    )


def default_filter(capabilities: Collection[str]) -> str:
    """The default profile as crun's annotation wants it (base64); "" without libseccomp."""
    return _compiled(frozenset(capabilities))


@lru_cache(maxsize=64)
def _compiled(capabilities: frozenset[str]) -> str:
    library = _library()
    if library is None or platform.machine() not in _AUDIT_ARCH:
        return ""
    try:
        program = _compile(library, default_profile(capabilities))
    except OSError:
        return ""
    return base64.b64encode(program).decode()


@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_arch_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_void_p,
    )
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    return library


def _compile(library: ctypes.CDLL, profile: Mapping[str, Any]) -> bytes:
    context = library.seccomp_init(_ERRNO | profile["defaultErrnoRet"])
    if not context:
        raise OSError("seccomp_init failed")
    try:
        # A tree instead of a list: fewer steps at every call the container makes.
        library.seccomp_attr_set(context, _ATTRIBUTE_OPTIMIZE, _BINARY_TREE)
        for name in profile.get("architectures", ()):
            token = library.seccomp_arch_resolve_name(_short(name))
            if not token or library.seccomp_arch_add(context, token) not in (0, _EEXIST):
                raise OSError(f"architecture {name} is not known")
        highest = max(_add_rule(library, context, rule) for rule in profile["syscalls"])
        return _guard(highest) + _export(library, context)
    finally:
        library.seccomp_release(context)


def _short(architecture: str) -> bytes:
    return architecture.removeprefix("SCMP_ARCH_").lower().encode()


def _add_rule(library: ctypes.CDLL, context: int, rule: Mapping[str, Any]) -> int:
    """The highest call number of the rule."""
    action = _ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else _ERRNO | rule["errnoRet"]
    tests = rule.get("args", ())
    arguments = (_Argument * max(1, len(tests)))(
        *(
            _Argument(test["index"], _COMPARE[test["op"]], test["value"], test.get("valueTwo", 0))
            for test in tests
        )
    )
    highest = 0
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN:
            # Newer than the library, or of another architecture.
            continue
        result = library.seccomp_rule_add_array(context, action, number, len(tests), arguments)
        if result not in (0, _EEXIST):
            raise OSError(-result, f"system call {name}")
        highest = max(highest, number)
    return highest


def _export(library: ctypes.CDLL, context: int) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        result = library.seccomp_export_bpf(context, fd)
        if result:
            raise OSError(-result, "seccomp_export_bpf failed")
        return os.pread(fd, _PROGRAM_BYTES_MAX, 0)
    finally:
        os.close(fd)


def _guard(highest: int) -> bytes:
    """Instructions before the program: ENOSYS for native calls above `highest`."""
    load, jump_equal, jump_greater, jump_at_least, give = 0x20, 0x15, 0x25, 0x35, 0x06
    steps = (
        (load, 0, 0, 4),
        (jump_equal, 0, 4, _AUDIT_ARCH[platform.machine()]),
        (load, 0, 0, 0),
        (jump_at_least, 2, 0, _X32_BIT),
        (jump_greater, 0, 1, highest),
        (give, 0, 0, _ERRNO | _ENOSYS),
    )
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
