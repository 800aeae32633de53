"""Default backends beside rules, for classes whose proxy serves them only where there are none."""

from __future__ import annotations

from typing import Any

from sampan.api.errors import Object
from sampan.api.resources import resource
from tests.behaviour.workload_kit import World, world

INGRESSES = resource("ingresses", "networking.k8s.io")
CLASSES = resource("ingressclasses", "networking.k8s.io")
PRIORITY = "traefik.ingress.kubernetes.io/router.priority"
OTHER = "traefik.ingress.kubernetes.io/router.middlewares"


def backend(name: str) -> Object:
    return {"service": {"name": name, "port": {"number": 80}}}


def rule(host: str, path: str = "", kind: str = "Prefix") -> Object:
    found: Object = {"host": host} if host else {}
    if path:
        found["http"] = {"paths": [{"path": path, "pathType": kind, "backend": backend("a")}]}
    return found


async def make(here: World, name: str, class_name: str, *rules: Object, **meta: Any) -> None:
    spec: Object = {"ingressClassName": class_name, "defaultBackend": backend("c")}
    spec |= {"rules": list(rules)} if rules else {}
    body = {
        "metadata": {"name": name, **meta},
        "spec": spec | ({"rules": list(rules)} if rules else {}),
    }
    await here.client.create(INGRESSES, body, "default")


def served(ingress: Object | None) -> list[tuple[str, str, str]]:
    """(host, path, service) of each of its rules."""
    return [
        (rule.get("host", ""), path["path"], path["backend"]["service"]["name"])
        for rule in (ingress or {"spec": {}})["spec"].get("rules") or ()
        for path in rule["http"]["paths"]
    ]


async def test_what_no_rule_takes_goes_to_the_default_backend() -> None:
    async with world() as here:
        cache = here.cache("ingresses", "networking.k8s.io")
        rules = (
            rule("a.example.com", "/api"),
            rule("whole.example.com", "/"),
            rule("exact.example.com", "/", "Exact"),
            rule("none.example.com"),
        )
        await make(here, "plain", "other", *rules)
        await make(here, "web", "t", *rules, annotations={OTHER: "m", "x": "y"})
        # The classes come later, as an add-on does.
        asks = {"ingress.sampan.io/default-backends": "derive"}
        for name, annotations in (("other", {}), ("t", asks)):
            meta = {"name": name, "annotations": annotations}
            spec = {"controller": f"example.com/{name}"}
            await here.client.create(CLASSES, {"metadata": meta, "spec": spec})

        def of(suffix: str) -> Object | None:
            return cache.get("default", f"web-default-{suffix}")

        await here.until(lambda: of("hosts") and of("rest"))
        hosts, rest = of("hosts"), of("rest")
        assert hosts
        assert rest
        left = ("a.example.com", "exact.example.com", "none.example.com")
        assert served(hosts) == [(host, "/", "c") for host in left]
        assert served(rest) == [("", "/", "c")]
        assert hosts["metadata"]["annotations"] == {OTHER: "m", PRIORITY: "2"}
        assert rest["metadata"]["annotations"] == {OTHER: "m", PRIORITY: "1"}
        assert rest["spec"]["ingressClassName"] == "t"
        assert rest["metadata"]["ownerReferences"][0]["name"] == "web"
        # Where one has a default backend alone, that is what all other hosts get.
        await make(here, "all", "t")
        await here.until(lambda: of("rest") is None)
        change = {"spec": {"defaultBackend": backend("b")}}
        await here.client.patch(INGRESSES, "web", change, "default")
        await here.until(lambda: served(of("hosts"))[0][2] == "b")
        await here.client.delete(INGRESSES, "all", "default")
        await here.until(lambda: served(of("rest")) == [("", "/", "b")])
        # What somebody deleted comes back; what nobody wishes any more goes.
        await here.client.delete(INGRESSES, "web-default-rest", "default")
        await here.until(lambda: of("rest"))
        await here.client.patch(INGRESSES, "web", {"spec": {"defaultBackend": None}}, "default")
        await here.until(lambda: not of("rest") and not of("hosts"))
        assert {item["metadata"]["name"] for item in cache.list("default")} == {"plain", "web"}
