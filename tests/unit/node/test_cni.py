"""CNI configurations and what plugins answer; real plugins need root."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from sampan.node import cni
from sampan.node.cni import Chain, CniPlumbing, PluginFailed, addresses_of, call, read_chain
from sampan.node.config import NodeConfig
from sampan.node.plumbing import Networks

SHARE = "10.244.3.0/24"
LIST = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [{"type": "ptp", "ipam": {"subnet": "{{.PodCIDR}}"}}, {"type": "tuning"}],
}


def test_the_first_configuration_counts_with_the_nodes_share(tmp_path: Path) -> None:
    assert read_chain(tmp_path / "none", SHARE) is None
    assert read_chain(tmp_path, SHARE) is None
    (tmp_path / "20.conf").write_text(json.dumps({"name": "other", "type": "bridge"}))
    assert read_chain(tmp_path, SHARE) == Chain(
        "other", "0.2.0", [{"name": "other", "type": "bridge"}]
    )
    (tmp_path / "10.conflist").write_text(json.dumps(LIST))
    found = read_chain(tmp_path, SHARE)
    assert found is not None
    assert [item["type"] for item in found.plugins] == ["ptp", "tuning"]
    assert found.plugins[0]["ipam"] == {"subnet": SHARE}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"name": "x", "plugins": []}', '{"name": "x", "plugins": [{}]}',
     '{"name": "x", "type": "../../bin/sh"}', '{"name": "x", "plugins": 3}'],
)  # fmt: skip
def test_a_configuration_that_is_none_names_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "10.conf").write_text(text)
    with pytest.raises(ValueError, match=r"10\.conf"):
        read_chain(tmp_path, SHARE)


def test_addresses_of_both_families() -> None:
    ips = [{"address": "fd00::5/64"}, {"address": "10.244.3.5/24"}]
    assert addresses_of({"ips": ips}) == ("10.244.3.5", "fd00::5")
    assert addresses_of({}) == ("", "")


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cni, "PATH", (str(tmp_path),))
    return tmp_path


def program(plugins: Path, name: str, script: str) -> None:
    path = plugins / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_plugin_is_asked_as_the_specification_has_it(plugins: Path) -> None:
    asked, told = plugins / "asked", plugins / "told"
    program(plugins, "ptp", f"cat > {asked}; env > {told}; echo '{{}}'")
    chain, plugin = Chain("pods", "1.0.0", []), {"type": "ptp", "mtu": 9000}
    assert call(chain, plugin, "ADD", ("uid-1", plugins), {"ips": [1]}) == {}
    assert json.loads(asked.read_text()) == {
        **plugin,
        "name": "pods",
        "cniVersion": "1.0.0",
        "prevResult": {"ips": [1]},
    }
    assert {
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=uid-1",
        f"CNI_NETNS={plugins}",
        "CNI_IFNAME=eth0",
    } <= set(told.read_text().splitlines())


def test_failures_are_told_in_the_plugins_words(plugins: Path) -> None:
    chain = Chain("pods", "1.0.0", [])
    said = json.dumps({"code": 11, "msg": "no addresses left", "details": "in range 1"})
    program(plugins, "ptp", f"echo '{said}'; exit 1")
    program(plugins, "odd", "echo nonsense; exit 2")
    why = r'plugin type="ptp" failed \(add\): no addresses left: in range 1'
    with pytest.raises(PluginFailed, match=why):
        call(chain, {"type": "ptp"}, "ADD", ("u", plugins), {})
    with pytest.raises(PluginFailed, match="nonsense"):
        call(chain, {"type": "odd"}, "DEL", ("u", plugins), {})
    with pytest.raises(PluginFailed, match='failed to find plugin "absent"'):
        call(chain, {"type": "absent"}, "ADD", ("u", plugins), {})


@pytest.mark.parametrize("kept", ["", '{"ips": '])
def test_what_was_asked_for_is_undone_also_where_the_answer_was_lost(
    plugins: Path, tmp_path: Path, kept: str
) -> None:
    """The agent was killed before it came, or the power went before it was on the disk."""
    asked = plugins / "asked"
    program(plugins, "ptp", f"echo $CNI_COMMAND $CNI_CONTAINERID > {asked}")
    config = NodeConfig(
        name="n", data=tmp_path, run=tmp_path / "run", address="", pod_cidr=SHARE, dns_ip="",
        ca_cert=tmp_path, cert=tmp_path, key=tmp_path,
    )  # fmt: skip
    share = IPv4Network(SHARE)
    chain = Chain("pods", "1.0.0", [{"type": "ptp"}])
    plumbing = CniPlumbing(config, "c", Networks(share, share, None), chain)
    answers = tmp_path / "cni"
    answers.mkdir()
    for name in ("uid-1.json", "uid-1.new"):
        (answers / name).write_text(kept)
    plumbing.detach("uid-1")
    assert asked.read_text() == "DEL uid-1\n"
    assert not [*answers.iterdir()]
