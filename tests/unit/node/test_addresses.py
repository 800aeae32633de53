"""Addresses of a node's share: in turn, kept on disk, never twice."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from sampan.node.addresses import Addresses, AddressesExhausted


def open_pool(folder: Path, network: str = "10.244.0.0/29") -> Addresses:
    pool = Addresses(folder, IPv4Network(network))
    pool.read()
    return pool


def test_addresses_come_in_turn_and_come_back_last(tmp_path: Path) -> None:
    pool = open_pool(tmp_path)
    assert [pool.give(uid) for uid in "abc"] == ["10.244.0.2", "10.244.0.3", "10.244.0.4"]
    assert pool.give("b") == "10.244.0.3"
    pool.take_back("a")
    assert [pool.give(uid) for uid in "def"] == ["10.244.0.5", "10.244.0.6", "10.244.0.2"]
    with pytest.raises(AddressesExhausted, match=r"range set: 10\.244\.0\.1-10\.244\.0\.6$"):
        pool.give("g")


def test_a_restart_finds_them_again(tmp_path: Path) -> None:
    pool = open_pool(tmp_path)
    given = {uid: pool.give(uid) for uid in "abc"}
    again = open_pool(tmp_path)
    assert again.pods == given
    assert again.give("d") == "10.244.0.5"
    again.take_back("nobody")


def test_records_that_make_no_sense_are_dropped(tmp_path: Path) -> None:
    for name, uid in (
        ("10.244.0.3", "a"), ("10.244.0.4", "a"), ("10.9.9.9", "b"), ("10.244.0.1", "c"),
    ):  # fmt: skip
        (tmp_path / name).symlink_to(uid)
    (tmp_path / "notes").write_text("left alone")
    pool = open_pool(tmp_path)
    assert pool.pods == {"a": "10.244.0.3"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10.244.0.3", "notes"]


def test_a_network_without_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no room"):
        Addresses(tmp_path, IPv4Network("10.244.0.0/31"))
