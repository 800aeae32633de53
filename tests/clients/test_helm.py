"""Helm by its Go SDK (helm-python-sdk), by `sampan helm`, and by the programs of Helm 3.

A chart with a kind of its own, hooks (a Job and Pods), a test.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest

from tests.clients.cluster import PROGRAMS, Cluster

CHART = Path(__file__).parent / "chart"
TIMEOUT_S = 60


def read(cluster: Cluster, namespace: str, *what: str) -> Any:
    return cluster.user.get("-n", namespace, *what)


def state(cluster: Cluster, namespace: str, name: str) -> tuple[str, str, int]:
    """Of what the chart made: greeting, image, books on the shelf."""
    spec = read(cluster, namespace, "deployment", name)["spec"]["template"]["spec"]
    return (
        read(cluster, namespace, "configmap", name)["data"]["greeting"],
        spec["containers"][0]["image"],
        read(cluster, namespace, "shelves.shop.example.com", name)["spec"]["books"],
    )


def test_sdk(cluster: Cluster, namespace: str, kubeconfig: Path) -> None:
    with helm.Config(kubeconfig_path=kubeconfig, namespace=namespace) as config:
        made = config.install(CHART, "shop", {"replicas": 2}, wait="watcher", timeout=TIMEOUT_S)
        assert (made["revision"], made["status"]) == (1, "deployed")
        assert state(cluster, namespace, "shop") == ("hello", "web:1", 5)
        assert read(cluster, namespace, "deployment", "shop")["status"]["readyReplicas"] == 2
        hook = read(cluster, namespace, "job", "shop-pre-install")
        assert hook["status"]["succeeded"] == 1
        assert hook["status"]["conditions"][-1]["type"] == "Complete"
        values = {"image": "web:2", "greeting": "welcome"}
        changed = config.upgrade(CHART, "shop", values, wait="watcher", timeout=TIMEOUT_S)
        assert changed["revision"] == 2
        assert state(cluster, namespace, "shop") == ("welcome", "web:2", 7)
        config.rollback("shop", version=1, wait="watcher", timeout=TIMEOUT_S)
        assert state(cluster, namespace, "shop") == ("hello", "web:1", 5)
        tested = config.test("shop", logs=True, timeout=TIMEOUT_S)
        assert "version 1\ntested" in tested["logs"]
        history = [(item["revision"], item["status"]) for item in config.history("shop")]
        assert history == [(1, "superseded"), (2, "superseded"), (3, "deployed")]
        assert config.get_values("shop") == {"replicas": 2}
        with pytest.raises(helm.HelmReleaseError):
            config.install(CHART, "shop", timeout=TIMEOUT_S)
        config.uninstall("shop", wait="watcher", timeout=TIMEOUT_S)
        assert config.list() == []
    left = read(cluster, namespace, "configmaps,services,deployments")["items"]
    assert [item["metadata"]["name"] for item in left] == ["kube-root-ca.crt"]


def test_a_hook_that_fails_fails_the_release(
    cluster: Cluster, namespace: str, kubeconfig: Path
) -> None:
    with helm.Config(kubeconfig_path=kubeconfig, namespace=namespace) as config:
        with pytest.raises(helm.HelmReleaseError, match="pre-install"):
            config.install(CHART, "bad", {"fail": True}, wait="hookOnly", timeout=TIMEOUT_S)
        assert config.status("bad")["status"] == "failed"


def test_sampan_helm(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        command, *rest = words
        where = ("--name", cluster.user.name, "--data", str(cluster.user.data))
        return cluster.user.run("sampan", "helm", command, *where, *rest, "-n", namespace).ok

    made = json.loads(run("install", "shop", str(CHART), "--wait", "--json", "--set", "replicas=0"))
    assert made["status"] == "deployed"
    values = tmp_path / "values.yaml"
    values.write_text("greeting: welcome\n")
    run("upgrade", "shop", str(CHART), "--install", "-f", str(values), "--set", "image=web:2")
    assert state(cluster, namespace, "shop") == ("welcome", "web:2", 7)
    assert "greeting: welcome" in run("get", "values", "shop")
    run("rollback", "shop", "1")
    assert state(cluster, namespace, "shop") == ("hello", "web:1", 5)
    assert [row["revision"] for row in json.loads(run("history", "shop", "--json"))] == [1, 2, 3]
    row = run("list").splitlines()[1].split()
    assert [*row[:3], *row[4:6]] == ["shop", namespace, "3", "deployed", "shop-1.0.0"]
    assert run("uninstall", "shop") == 'release "shop" uninstalled\n'
    text = cluster.user.run("sampan", "helm", "template", "shop", str(CHART)).ok
    assert "# Source: shop/templates/shop.yaml" in text
    missing = cluster.user.run("sampan", "helm", "install", "x", "/no/chart", "--name", "nobody")
    assert missing.failed.startswith("sampan: there is no cluster nobody")


def test_a_chart_is_an_add_on(cluster: Cluster, tmp_path: Path) -> None:
    """With a namespace and kinds of its own; disabled, nothing of it is left, hooks' pods neither.
    Values stay until others are given, and a first try that failed is in nobody's way."""
    user, folder = cluster.user, tmp_path / "library"
    shutil.copytree(CHART, folder)
    definition = folder / "crds/shelf.yaml"
    definition.write_text(definition.read_text().replace("shop.example", "library.example"))
    template = folder / "templates/shop.yaml"
    template.write_text(template.read_text().replace("shop.example", "library.example"))
    about = "{description: Books., namespace: library, values: {greeting: psst, replicas: 0}}"
    (folder / "addon.yaml").write_text(about)

    def greeting() -> str:
        found: str = read(cluster, "library", "configmap", "library")["data"]["greeting"]
        return found

    assert "pre-install" in user.sampan("addon", "enable", str(folder), "--set", "fail=true").err
    assert user.sampan("addon", "enable", str(folder), "--set", "image=web:2").ok == (
        "add-on library is enabled\npsst from library\n"
    )
    # As a newer version of the chart would: Helm alone leaves definitions as they are.
    definition.write_text(definition.read_text().replace("singular: shelf", "singular: board"))
    user.sampan("addon", "enable", str(folder)).ok
    assert greeting() == "psst"
    deployment = read(cluster, "library", "deployment", "library")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "web:2"
    name = "crd", "shelves.library.example.com"
    assert user.get(*name)["spec"]["names"]["singular"] == "board"
    user.sampan("addon", "enable", str(folder), "--set", "greeting=hush").ok
    assert greeting() == "hush"
    assert "library         enabled" in user.sampan("addon", "ls").ok
    user.sampan("addon", "disable", "library").ok
    gone = user.kubectl("wait", "--for=delete", "namespace/library", "--timeout=20s")
    assert gone.code == 0 or "not found" in gone.err
    assert "not found" in user.kubectl("get", *name).err
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "empty.yaml").write_text("")
    assert "takes no values" in user.sampan("addon", "enable", str(plain), "--set", "a=b").failed


def test_sampan_kubectl(cluster: Cluster) -> None:
    user = cluster.user
    where = ("--name", user.name, "--data", str(user.data))
    elsewhere = {"KUBECONFIG": "/dev/null"}
    said = user.run("sampan", "kubectl", *where, "get", "ns", "-o", "name", env=elsewhere).ok
    assert "namespace/kube-system" in said.splitlines()
    assert user.run("sampan", "kubectl", *where, "-n", "default", "get", "cm", "x").code == 1
    assert "Usage:" in user.run("sampan", "kubectl", *where, "get", "--help").ok
    lost = user.run("sampan", "kubectl", "--name", "nobody", "get", "pods").failed
    assert lost == "sampan: there is no cluster nobody; start it with: sampan up --name nobody"


@pytest.mark.parametrize("version", ["3.12", "3.17"])
def test_program(cluster: Cluster, namespace: str, kubeconfig: Path, version: str) -> None:
    program = PROGRAMS / f"bin/helm-{version}"
    assert program.exists(), "make clients"

    def run(*words: str) -> str:
        environment = cluster.environment | {"KUBECONFIG": str(kubeconfig)}
        command = [str(program), "--namespace", namespace, *words]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("install", "shop", str(CHART), "--wait", "--timeout=60s")
    run("upgrade", "shop", str(CHART), "--set", "greeting=welcome,image=web:2", "--wait")
    assert state(cluster, namespace, "shop") == ("welcome", "web:2", 7)
    run("rollback", "shop", "1", "--wait")
    assert "tested" in run("test", "shop", "--logs")
    assert [row["revision"] for row in json.loads(run("history", "shop", "-o", "json"))] == [
        1,
        2,
        3,
    ]
    run("uninstall", "shop", "--wait")
    assert json.loads(run("list", "-o", "json")) == []


def test_charts_that_a_chart_needs(tmp_path: Path) -> None:
    for name, more in (
        ("parent", "dependencies: [{name: child, version: 1.x, repository: file://../child}]"),
        ("child", ""),
    ):
        (tmp_path / name / "templates").mkdir(parents=True)
        text = f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n{more}\n"
        (tmp_path / name / "Chart.yaml").write_text(text)
    (tmp_path / "child" / "templates" / "c.yaml").write_text("kind: ConfigMap")

    def sampan(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sampan", "helm", *words, str(tmp_path / "parent")]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    before = sampan("template", "x")
    assert (before.returncode, before.stdout) == (1, "")
    assert "missing in charts/ directory: child" in before.stderr
    assert sampan("dependency", "update").stdout.split()[-1] == "ok"
    assert "# Source: parent/charts/child/templates/c.yaml" in sampan("template", "x").stdout
