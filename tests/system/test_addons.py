"""Add-ons on a real cluster: ingress by Traefik, asked as a browser would, with names and TLS."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.cli import User
from tests.kit.hooks import authority, pem, serving_pair
from tests.kit.images import busybox_archive
from tests.kit.machine import NOTHING, traces
from tests.kit.ports import free_port

pytestmark = pytest.mark.root

SECURE, PLAIN, GATEWAY = "secure.example.com", "plain.example.com", "gateway.example.com"
OTHER_PORT = 8000
"""Traefik has to be told of it."""
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    folder = tmp_path_factory.mktemp("addons")
    (folder / "home").mkdir()
    user = User("addons", folder / "data", folder / "home")
    try:
        user.sampan("up", "--no-merge", "--listen", f"127.0.0.1:{free_port()}").ok
        image = busybox_archive(folder / "image.tar", "addons:1")
        user.sampan("image", "load", str(image)).ok
        yield user
    finally:
        user.sampan("down", "--purge").ok
    assert traces(user.name, user.data) == NOTHING


def backend(name: str) -> list[dict[str, Any]]:
    script = f"mkdir -p /www/api; echo {name} > /www/index.html; cp /www/*.html /www/api"
    container = {
        "name": "c",
        "image": "addons:1",
        "command": ["sh", "-c", f"{script}; exec httpd -f -p 8080 -h /www"],
    }
    pod = {"containers": [container], "terminationGracePeriodSeconds": 0}
    port = {"port": 80, "targetPort": 8080}
    meta = {"name": name, "labels": {"app": name}}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [port]},
        },
    ]


def routes() -> list[dict[str, Any]]:
    def path(value: str, service: str) -> dict[str, Any]:
        target = {"service": {"name": service, "port": {"number": 80}}}
        return {"path": value, "pathType": "Prefix", "backend": target}

    rules = [
        {"host": SECURE, "http": {"paths": [path("/", "one"), path("/api", "two")]}},
        {"host": PLAIN, "http": {"paths": [path("/api", "two")]}},
    ]
    rest = {"service": {"name": "one", "port": {"number": 80}}}
    tls = [{"hosts": [SECURE], "secretName": "secure"}]
    ingress = {"tls": tls, "rules": rules, "defaultBackend": rest}
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    other = {"name": "other", "port": OTHER_PORT, "protocol": "HTTP"}
    gateway = {"gatewayClassName": "traefik", "listeners": [listener, other]}
    backends = {"backendRefs": [{"name": "two", "port": 80}]}
    every, old, moved = ([{"path": {"value": value}}] for value in ("/", "/old", "/moved"))
    inner = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/api"}
    rewrite = {"type": "URLRewrite", "urlRewrite": {"path": inner}}
    redirect = {"type": "RequestRedirect", "requestRedirect": {"statusCode": 301}}
    route = {
        "parentRefs": [{"name": "gateway"}],
        "hostnames": [GATEWAY],
        "rules": [
            {"matches": every} | backends,
            {"matches": old, "filters": [rewrite]} | backends,
            {"matches": moved, "filters": [redirect]},
        ],
    }
    kinds = (
        ("networking.k8s.io/v1", "Ingress", "web", ingress),
        ("gateway.networking.k8s.io/v1", "Gateway", "gateway", gateway),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "route", route),
    )
    return [
        {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
        for version, kind, name, spec in kinds
    ]


def certificate(folder: Path, host: str) -> Path:
    """The CA that signed the one of `host`, which is beside it with its key."""
    leaf, key = serving_pair((host,))
    for name, data in (("ca.crt", pem(authority()[1])), ("tls.crt", leaf), ("tls.key", key)):
        (folder / name).write_bytes(data)
    return folder / "ca.crt"


def ask(address: str, host: str, path: str = "/", ca: Path | None = None) -> str:
    """What `host` says at this address, by TLS if there is a CA to check it by."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    port = int(host.partition(":")[2] or (443 if ca else 80))
    plain = socket.create_connection((address, port), timeout=5)
    link = plain
    if ca is not None:
        # Takes the socket over, also when it fails.
        link = ssl.create_default_context(cafile=str(ca)).wrap_socket(plain, server_hostname=host)
    with link:
        link.sendall(request)
        answer = b""
        while data := link.recv(4096):
            answer += data
    if not answer:
        # A proxy that is being replaced by one with more ports.
        raise ConnectionResetError("no answer")
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1]
    return (body if status == b"200" else status).decode().strip()


def test_ingress_and_gateway_are_served(user: User, tmp_path: Path) -> None:
    user.sampan("addon", "enable", "ingress").ok
    assert json.loads(user.sampan("addon", "ls", "--json").ok)[0]["enabled"] is True
    ca = certificate(tmp_path, SECURE)
    files = (f"--cert={tmp_path / 'tls.crt'}", f"--key={tmp_path / 'tls.key'}")
    user.kubectl("create", "secret", "tls", "secure", *files).ok
    items = [*backend("one"), *backend("two"), *routes()]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    user.kubectl("apply", "-f", "-", text=text).ok
    # The proxy reads all routes or none: what it cannot read is not taken.
    odd = '[{"op": "add", "path": "/spec/rules/0/filters", "value": [{"type": 1}]}]'
    refused = user.kubectl("patch", "httproute", "route", "--type=json", "-p", odd)
    assert "must be of type string" in refused.err
    address = "jsonpath={.status.loadBalancer.ingress[0].ip}"
    user.kubectl("wait", "ingress/web", f"--for={address}", "--timeout=20s").ok
    ip = user.kubectl("get", "ingress", "web", "-o", address).ok
    user.kubectl("wait", "gateway/gateway", "--for=condition=Programmed", "--timeout=20s").ok
    wanted = {
        (SECURE, "/", ca): "one",
        (SECURE, "/api/", ca): "two",
        (PLAIN, "/api/", None): "two",
        (PLAIN, "/", None): "one",
        # A prefix is of whole elements of a path.
        (PLAIN, "/apis", None): "404",
        (GATEWAY, "/", None): "two",
        (f"{GATEWAY}:{OTHER_PORT}", "/", None): "two",
        (GATEWAY, "/none/", None): "404",
        (GATEWAY, "/old/", None): "two",
        (GATEWAY, "/moved", None): "301",
        ("other.example.com", "/", None): "one",
    }
    # The proxy hears of endpoints by watches of its own, some moments after we do.
    end = time.monotonic() + PATIENCE_S
    while (found := answers(ip, wanted)) != wanted and time.monotonic() < end:
        time.sleep(0.1)
    assert found == wanted
    with pytest.raises(ssl.SSLError):
        ask(ip, PLAIN, ca=ca)
    user.sampan("addon", "disable", "ingress").ok
    assert "no resources found" in user.kubectl("get", "ingressclass").err.lower()


def answers(ip: str, wanted: dict[Any, str]) -> dict[Any, str]:
    found = {}
    for host, path, ca in wanted:
        try:
            found[host, path, ca] = ask(ip, host, path, ca)
        except OSError as error:
            found[host, path, ca] = str(error)
    return found


def odd_folder(folder: Path) -> Path:
    """Its name cannot be that of an object."""
    odd = folder / "My_Own"
    odd.mkdir()
    return odd


def test_a_folder_of_ones_own_is_an_add_on(user: User, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\n"
    (folder / "all.yaml").write_text(f"# two\n{one}---\n{one.replace('one', 'two')}")
    user.sampan("addon", "enable", str(folder)).ok
    assert {"one", "two"} <= {item["metadata"]["name"] for item in user.get("cm")["items"]}
    # What a newer version has no more goes.
    (folder / "all.yaml").write_text(one)
    user.sampan("addon", "enable", str(folder)).ok
    assert "two" not in {item["metadata"]["name"] for item in user.get("cm")["items"]}
    # What there was when a version failed can still be taken away.
    bad = one.replace("one", "three") + "---\n" + one.replace("name: one", "name: No_Name")
    (folder / "all.yaml").write_text(bad)
    assert "ConfigMap No_Name" in user.sampan("addon", "enable", str(folder)).err
    assert {"one", "three"} <= {item["metadata"]["name"] for item in user.get("cm")["items"]}
    user.sampan("addon", "disable", "mine").ok
    assert "three" not in {item["metadata"]["name"] for item in user.get("cm")["items"]}
    assert "one" not in {item["metadata"]["name"] for item in user.get("cm")["items"]}
    assert "is not enabled" in user.sampan("addon", "disable", "mine").failed
    assert "an add-on's name is" in user.sampan("addon", "enable", f"{odd_folder(tmp_path)}").failed
    assert "there is no add-on 'nothing'" in user.sampan("addon", "enable", "nothing").failed
