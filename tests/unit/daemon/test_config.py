"""Networks of a cluster's nodes, and whether the machine has IPv6 for them."""

from __future__ import annotations

import fcntl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from msgspec.structs import replace

from sampan.daemon import config as module
from sampan.daemon.config import ClusterConfig, begin, has_ipv6, share6
from sampan.daemon.control import advertised
from sampan.daemon.listening import address_of
from sampan.paths import ClusterPaths


def config(listen_host: str = "127.0.0.1", **changes: Any) -> ClusterConfig:
    return ClusterConfig(
        name="c", slot=1, node_name="n", pod_cidr="10.243.0.0/16", service_cidr="10.97.0.0/16",
        listen_host=listen_host, listen_port=6444, identity="i",
        pod_cidr6="fd00:10:243::/56", service_cidr6="fd00:10:97::/112", **changes,
    )  # fmt: skip


def test_a_nodes_shares_are_at_the_same_place() -> None:
    first = config()
    assert (first.node_pod_cidr6, first.gateway6) == ("fd00:10:243::/64", "fd00:10:243::1")
    assert first.service_cidrs == "10.97.0.0/16,fd00:10:97::/112"
    third = config(node_cidr="10.243.2.0/24")
    assert third.node_pod_cidr6 == "fd00:10:243:2::/64"
    assert share6("10.243.0.0/16", "fd00:10:243::/56", "10.243.255.0/24") == "fd00:10:243:ff::/64"


@pytest.mark.parametrize(
    ("disabled", "default", "there"), [("0", "0", True), ("1", "0", False), ("0", "1", False)]
)
def test_ipv6_is_there_unless_devices_may_not_have_it(
    tmp_path: Path, disabled: str, default: str, there: bool
) -> None:
    assert not has_ipv6(tmp_path)
    for name, text in (("all", disabled), ("default", default)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "disable_ipv6").write_text(f"{text}\n")
    (tmp_path / "all/forwarding").write_text("0\n")
    assert has_ipv6(tmp_path) is there


def test_clusters_made_at_the_same_moment_share_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "routed_networks", list)
    count = 6
    together = Barrier(count)

    def make(number: int) -> ClusterConfig:
        name = f"c{number}"
        paths = ClusterPaths(name, tmp_path / "data" / name, tmp_path / "run" / name)
        together.wait()
        return begin(paths, "")

    with ThreadPoolExecutor(count) as pool:
        made = list(pool.map(make, range(count)))
    assert len({item.pod_cidr for item in made}) == count
    assert len({item.listen_port for item in made}) == count


def test_where_it_listens_is_an_address() -> None:
    assert address_of("192.0.2.1:6443") == ("192.0.2.1", 6443)
    assert address_of("[2001:DB8::1]:6443") == ("2001:db8::1", 6443)
    assert address_of("localhost:6443") == address_of(":6443") == ("127.0.0.1", 6443)
    for wrong in ("192.0.2.1", "192.0.2.1:0", "192.0.2.1:99999"):
        with pytest.raises(ValueError, match="use HOST:PORT"):
            address_of(wrong)
    with pytest.raises(ValueError, match=r"example\.com is no address"):
        address_of("example.com:6443")


def test_machines_may_be_reached_by_either_family() -> None:
    for host, url, underlay in (
        ("2001:db8::1", "https://[2001:db8::1]:6444", "2001:db8::1"),
        ("192.0.2.1", "https://192.0.2.1:6444", "192.0.2.1"),
        ("127.0.0.1", "https://127.0.0.1:6444", ""),
        ("::1", "https://[::1]:6444", ""),
    ):
        found = config(listen_host=host)
        assert (found.url, found.underlay) == (url, underlay)
        # The service of the API is of IPv4.
        assert advertised(found) == (host if host == "192.0.2.1" else "10.243.0.1")


def test_a_folder_is_of_one_cluster(tmp_path: Path) -> None:
    module.write(ClusterPaths("c", tmp_path / "data", tmp_path / "run" / "c"), config())
    with pytest.raises(ValueError, match="is of cluster c; use --name c"):
        begin(ClusterPaths("d", tmp_path / "data", tmp_path / "run" / "d"), "127.0.0.1:7443")


def test_a_cluster_does_not_start_in_the_networks_of_one_that_runs(tmp_path: Path) -> None:
    first, second = (
        ClusterPaths(name, tmp_path / "data" / name, tmp_path / "run" / name)
        for name in ("first", "second")
    )
    found = replace(config(), name="first")
    module.write(first, found)
    # Made while the first one was stopped, and was not known of.
    module.write(second, replace(found, name="second", identity="another"))
    begin(second, "")
    assert begin(first, "") == found
    with open(second.run / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="cluster second runs in the networks of this one"):
            begin(first, "")
        assert begin(second, "").name == "second"
    assert begin(first, "") == found
