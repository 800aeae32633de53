"""The default seccomp profile: which system calls a container may make.

The same rules as the field's well-known default profile (Docker's, which containerd and CRI-O
share), written as tables: everything is denied with EPERM but what stands here. Some calls come
with a capability. Like containerd's, the profile leaves out io_uring, whose bugs have let
containers out more than once.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

_FILES = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat
faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown
fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat
fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64
getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32
lgetxattr link linkat listxattr llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir
mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2
pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr rename renameat
renameat2 rmdir sendfile sendfile64 setxattr splice stat stat64 statfs statfs64 statx symlink
symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat
utimensat_time64 utimes vmsplice write writev
"""
_EVENTS = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 io_cancel io_destroy io_getevents io_pgetevents
io_pgetevents_time64 io_setup io_submit _newselect pause pipe pipe2 poll ppoll ppoll_time64 pselect6
pselect6_time64 select signalfd signalfd4
"""
_MEMORY = """
brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2
mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free
pkey_mprotect process_mrelease remap_file_pages
"""
_PROCESSES = """
alarm capget capset execve execveat exit exit_group fork futex futex_requeue futex_time64
futex_wait futex_waitv futex_wake getcpu getegid getegid32 geteuid geteuid32 getgid getgid32
getgroups getgroups32 getitimer getpgid getpgrp getpid getppid getpriority getresgid getresgid32
getresuid getresuid32 getrlimit get_robust_list getrusage getsid get_thread_area gettid getuid
getuid32 ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
landlock_restrict_self pidfd_open pidfd_send_signal prctl prlimit64 process_vm_readv
process_vm_writev ptrace restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask
rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
sched_setattr sched_setparam sched_setscheduler sched_yield seccomp setfsgid setfsgid32 setfsuid
setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32
setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid
set_thread_area set_tid_address setuid setuid32 sigaltstack sigprocmask sigreturn tgkill tkill
ugetrlimit vfork wait4 waitid waitpid
"""
_SOCKETS = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
"""
_SHARED = """
ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop
semtimedop_time64 shmat shmctl shmdt shmget
"""
_TIME = """
adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
clock_gettime64 clock_nanosleep clock_nanosleep_time64 getrandom gettimeofday nanosleep sysinfo
time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
times uname
"""
ALLOWED: tuple[str, ...] = tuple(
    " ".join((_FILES, _EVENTS, _MEMORY, _PROCESSES, _SOCKETS, _SHARED, _TIME)).split()
)

_ADMINISTRATION = """
bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr
move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
umount umount2 unshare
"""

# Calls that come with a capability.
WITH_CAPABILITY: Mapping[str, tuple[str, ...]] = {
    "CAP_BPF": ("bpf",),
    "CAP_DAC_READ_SEARCH": ("open_by_handle_at",),
    "CAP_PERFMON": ("perf_event_open",),
    "CAP_SYSLOG": ("syslog",),
    "CAP_SYS_ADMIN": tuple(_ADMINISTRATION.split()),
    "CAP_SYS_BOOT": ("reboot",),
    "CAP_SYS_CHROOT": ("chroot",),
    "CAP_SYS_MODULE": ("delete_module", "finit_module", "init_module"),
    "CAP_SYS_NICE": ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"),
    "CAP_SYS_PACCT": ("acct",),
    "CAP_SYS_PTRACE": ("kcmp", "pidfd_getfd", "process_madvise"),
    "CAP_SYS_RAWIO": ("ioperm", "iopl"),
    "CAP_SYS_TIME": ("clock_settime", "clock_settime64", "settimeofday", "stime"),
    "CAP_SYS_TTY_CONFIG": ("vhangup",),
}

_ARCHITECTURES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "x86_64": (
        ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
        ("arch_prctl", "modify_ldt"),
    ),
    "aarch64": (
        ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
        (
            "arm_fadvise64_64",
            "arm_sync_file_range",
            "breakpoint",
            "cacheflush",
            "set_tls",
            "sync_file_range2",
        ),
    ),
}

# CLONE_NEW* flags: a container without CAP_SYS_ADMIN makes no namespaces.
_NAMESPACE_FLAGS = 0x7E02_0000
# personality(2): Linux and its 32-bit form, with and without UNAME26, and "only ask".
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFF_FFFF)
_AF_VSOCK = 40
_EPERM = 1
_ENOSYS = 38


def default_profile(capabilities: Collection[str]) -> Mapping[str, Any]:
    """The OCI `linux.seccomp` object for a container that holds `capabilities`. Shared: do not
    change it."""
    relevant = frozenset(name for name in capabilities if name in WITH_CAPABILITY)
    return _profile(relevant, platform.machine())


@lru_cache(maxsize=64)
def _profile(capabilities: frozenset[str], machine: str) -> Mapping[str, Any]:
    architectures, extra = _ARCHITECTURES.get(machine, ((), ()))
    names = [*ALLOWED, *extra]
    for capability in sorted(capabilities):
        names.extend(WITH_CAPABILITY[capability])
    rules: list[Mapping[str, Any]] = [
        {"names": list(dict.fromkeys(names)), "action": "SCMP_ACT_ALLOW"},
        _rule("socket", 0, _AF_VSOCK, "SCMP_CMP_NE"),
        *(_rule("personality", 0, value, "SCMP_CMP_EQ") for value in _PERSONALITIES),
    ]
    if "CAP_SYS_ADMIN" not in capabilities:
        rules.append(_rule("clone", 0, _NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ"))
        # Its flags are behind a pointer, out of a filter's sight: libraries fall back to clone.
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    profile: dict[str, Any] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "syscalls": rules,
    }
    if architectures:
        profile["architectures"] = list(architectures)
    return profile


def _rule(name: str, index: int, value: int, op: str) -> Mapping[str, Any]:
    test: Mapping[str, int | str] = {"index": index, "value": value, "op": op}
    if op == "SCMP_CMP_MASKED_EQ":
        test = {"index": index, "value": value, "valueTwo": 0, "op": op}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [test]}
