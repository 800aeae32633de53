"""Quotas by project: what the kernel is asked. No kernel of the tests keeps any; offsets are those
that a C program prints of <linux/dqblk_xfs.h> and <linux/fs.h>."""

from __future__ import annotations

import ctypes
import errno
import struct
from pathlib import Path
from typing import Any

import pytest

from sampan.linux import projectquota
from sampan.node.volumes.local import LocalVolumes
from tests.kit.runtime import FakeKernel

NAME = "pvc-62bb990e-6e3e-4d0c-a80c-56bde485be73"


class Quotas:
    """A kernel that keeps them, or answers that it does not."""

    def __init__(self, error: int = 0) -> None:
        self.error = error
        self.projects: list[tuple[int, int]] = []
        self.limits: list[tuple[int, int]] = []

    def ioctl(self, fd: int, request: int, argument: Any) -> int:
        if request == projectquota.FS_IOC_FSSETXATTR:
            flags, _, _, project = struct.unpack_from("=IIII", argument)
            self.projects.append((flags & 0x200, project))
        return 0

    def syscall(self, number: Any, fd: Any, command: Any, project: Any, quota: Any) -> int:
        assert command.value == 0x5804 << 8 | 2
        version, kind, fields, owner, blocks = struct.unpack(
            "=bbHIQ96x", ctypes.string_at(quota, 112)
        )
        assert (version, kind, fields, owner) == (1, 2, 8, project.value)
        self.limits.append((owner, blocks * projectquota.BLOCK_BYTES))
        if self.error:
            raise OSError(self.error, "no")
        return 0


@pytest.fixture
def quotas(monkeypatch: pytest.MonkeyPatch) -> Quotas:
    made = Quotas()
    monkeypatch.setattr("fcntl.ioctl", made.ioctl)
    monkeypatch.setattr(projectquota, "_syscall", made.syscall)
    return made


async def test_a_volume_is_a_project_of_its_size(quotas: Quotas, tmp_path: Path) -> None:
    local = LocalVolumes(tmp_path, FakeKernel())
    await local.make(NAME, 1 << 20)
    ((inherits, project),) = quotas.projects
    assert inherits
    await local.make(NAME, (2 << 20) + 1)
    await local.remove(NAME)
    # Whole blocks; a removed volume's number holds nobody any more.
    assert quotas.limits == [(project, 1 << 20), (project, (2 << 20) + 512), (project, 0)]


async def test_without_quotas_a_volume_is_made_all_the_same(quotas: Quotas, tmp_path: Path) -> None:
    local = LocalVolumes(tmp_path, FakeKernel())
    quotas.error = errno.ENOSYS
    assert (await local.make(NAME, 1 << 20)).is_dir()
    quotas.error = errno.EIO
    with pytest.raises(OSError):
        await local.make(NAME, 2 << 20)
