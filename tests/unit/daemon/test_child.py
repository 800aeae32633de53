"""A part and its supervisor."""

from __future__ import annotations

import os

from sampan.daemon.child import is_unread


def test_a_supervisor_that_went_while_its_part_was_loading_is_missed() -> None:
    read, write = os.pipe()
    try:
        assert not is_unread(write)
        os.close(read)
        assert is_unread(write)
    finally:
        os.close(write)
