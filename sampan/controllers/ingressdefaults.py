"""Default backends of Ingresses that have rules too, for proxies that serve them only where there
are none: those whose IngressClass says so (`ANNOTATION`), as the one of the add-on `ingress` does.

What none of the rules takes goes to the default backend (networking.k8s.io/v1, IngressSpec). Two
further Ingresses say so in rules, each under the lowest priorities that Traefik knows, so that any
rule of any Ingress goes before them: NAME-default-hosts, for its own hosts, and after it
NAME-default-rest, for all others. They belong to their Ingress and go with it. Others' Ingresses
that have such a name are left alone. Where an Ingress has a default backend and nothing else, that
is what all other hosts get.
"""

from __future__ import annotations

from sampan.api.errors import Object
from sampan.api.meta import controller_of, owner_reference
from sampan.api.resources import resource
from sampan.client.informer import Informer

from .runtime.controller import Context, Controller
from .runtime.queue import Request

ANNOTATION = "ingress.sampan.io/default-backends"
"""Of an IngressClass: "derive" asks for what this does."""
CLASS = "kubernetes.io/ingress.class"
PRIORITY = "traefik.ingress.kubernetes.io/router.priority"
PASSED_ON = "traefik.ingress.kubernetes.io/"
"""Annotations with this are the derived ones' too."""
HOSTS, REST = "-default-hosts", "-default-rest"
NAME_MAX = 253


class IngressDefaultsController(Controller):
    """See the module. Classes are watched from the first Ingress on that this may be about."""

    name = "ingress_defaults"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("ingresses", "networking.k8s.io")
        self.classes: Informer | None = None
        self.ingresses = self.informer(self.resource)
        self.ingresses.on_change(self._changed)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            if obj is None:
                continue
            owner = controller_of(obj)
            if owner is not None and owner.get("kind") == "Ingress":
                self.queue.add(Request(obj["metadata"]["namespace"], owner["name"]))
            elif has_both(obj):
                self.add(obj)
            elif is_default(obj) and (old is None or new is None or not is_default(old)):
                self._add_all()

    def _class_changed(self, old: Object | None, new: Object | None) -> None:
        self._add_all()

    def _add_all(self) -> None:
        for ingress in self.ingresses.list():
            if has_both(ingress):
                self.add(ingress)

    async def reconcile(self, request: Request) -> None:
        ingress = self.ingresses.get(request.namespace, request.name)
        if ingress is None or ingress["metadata"].get("deletionTimestamp"):
            return
        wanted: dict[str, Object] = {}
        if has_both(ingress) and await self._is_asked(ingress):
            alone = any(
                is_default(other) and class_of(other) == class_of(ingress)
                for other in self.ingresses.list()
            )
            wanted = derive(ingress, rest=not alone)
        for suffix in (HOSTS, REST):
            await self._settle(ingress, name_of(request.name, suffix), wanted.get(suffix))

    async def _is_asked(self, ingress: Object) -> bool:
        if self.classes is None:
            classes = resource("ingressclasses", "networking.k8s.io")
            self.classes = self.context.informers.informer(classes)
            self.classes.on_change(self._class_changed)
        await self.classes.synced()
        found = self.classes.get("", class_of(ingress)) or {"metadata": {}}
        return (found["metadata"].get("annotations") or {}).get(ANNOTATION) == "derive"

    async def _settle(self, ingress: Object, name: str, wanted: Object | None) -> None:
        namespace = ingress["metadata"]["namespace"]
        there = self.ingresses.get(namespace, name)
        if there is None:
            if wanted is not None:
                await self.client.create(self.resource, wanted, namespace)
            return
        owner = controller_of(there)
        if owner is None or owner["uid"] != ingress["metadata"]["uid"]:
            return
        if wanted is None:
            await self.client.delete(self.resource, name, namespace)
            return
        annotations = wanted["metadata"]["annotations"]
        if there["spec"] != wanted["spec"] or there["metadata"].get("annotations") != annotations:
            meta = {**there["metadata"], "annotations": annotations}
            await self.client.update(
                self.resource, {**there, "metadata": meta, "spec": wanted["spec"]}
            )


def has_both(ingress: Object) -> bool:
    return bool(ingress["spec"].get("defaultBackend") and ingress["spec"].get("rules"))


def is_default(ingress: Object) -> bool:
    return bool(ingress["spec"].get("defaultBackend") and not ingress["spec"].get("rules"))


def class_of(ingress: Object) -> str:
    annotations = ingress["metadata"].get("annotations") or {}
    return str(ingress["spec"].get("ingressClassName") or annotations.get(CLASS) or "")


def name_of(ingress: str, suffix: str) -> str:
    return ingress[: NAME_MAX - len(suffix)] + suffix


def derive(ingress: Object, *, rest: bool) -> dict[str, Object]:
    """The further Ingresses, by suffix: for the hosts that have no rule for all their paths, and,
    with `rest`, for all other hosts. Pure."""
    spec, hosts = ingress["spec"], dict[str, bool]()
    for rule in spec["rules"]:
        host = rule.get("host") or ""
        paths = (rule.get("http") or {}).get("paths") or ()
        whole = any(
            (item.get("path") or "/") == "/" and item.get("pathType") != "Exact" for item in paths
        )
        hosts[host] = hosts.get(host, False) or whole
    any_host = hosts.pop("", False)
    found = {}
    if left := [host for host, whole in hosts.items() if not whole]:
        found[HOSTS] = _further(ingress, HOSTS, left, 2)
    if rest and not any_host:
        found[REST] = _further(ingress, REST, [""], 1)
    return found


def _further(ingress: Object, suffix: str, hosts: list[str], priority: int) -> Object:
    meta, spec = ingress["metadata"], ingress["spec"]
    kept = {
        key: value
        for key, value in (meta.get("annotations") or {}).items()
        if key.startswith(PASSED_ON) or key == CLASS
    }
    path = {"path": "/", "pathType": "Prefix", "backend": spec["defaultBackend"]}
    rules = [({"host": host} if host else {}) | {"http": {"paths": [path]}} for host in hosts]
    named = {key: spec[key] for key in ("ingressClassName",) if key in spec}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name_of(meta["name"], suffix),
            "namespace": meta["namespace"],
            "annotations": kept | {PRIORITY: str(priority)},
            "ownerReferences": [owner_reference(ingress)],
        },
        "spec": named | {"rules": rules},
    }
