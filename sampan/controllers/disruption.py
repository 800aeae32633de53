"""Disruption budgets: how many of their pods may be taken away now.

Work per sync is that of the pods of the budget's namespace that carry the first label of its
selector (all of them if it has none). The eviction subresource takes from what is allowed in a
guarded write; so does the status written here, so neither loses what the other did.
"""

from __future__ import annotations

from collections.abc import Sequence

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Conflict, NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.api.selectors import Selector, from_label_selector
from sampan.client.events import NORMAL, WARNING
from sampan.client.informer import Informer

from .disruption_plan import (
    Observed,
    disrupted,
    failed_status,
    needs_scale,
    settled,
    stale_in_s,
    status_of,
    wanted,
)
from .runtime import pods as podlib
from .runtime.controller import Context, Controller
from .runtime.labels import add_label_index, selected
from .runtime.owners import controller_of, controller_uid, refers_to
from .runtime.queue import Request, Requeue
from .runtime.scales import NoKindError, Scales, definitions_resource, replicas_of
from .runtime.selection import selector_text
from .runtime.status import write_status

# A sync costs some 10 us per pod: a budget over 1000 pods is looked at twenty times a second.
PACE_S = 50e-6
UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a "
    "result, the status of the PDB cannot be calculated correctly, which may result in undefined "
    'behavior. To account for these pods please set ".spec.minAvailable" field of the PDB to an '
    "integer value."
)


class CountError(Exception):
    """The number of expected pods cannot be told."""


class DisruptionController(Controller):
    """See the module."""

    name = "disruption"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("poddisruptionbudgets", "policy")
        self.recorder = context.recorder("controllermanager")
        self.scales = Scales(self.client, self.informer(definitions_resource()))
        self.deployments = resource("deployments", "apps")
        self.sets = resource("replicasets", "apps")
        self.cached: dict[tuple[str, str], Informer] = {}
        """Informers of owners, by group and kind: of the rest the Scale is read."""
        for found in (
            self.deployments,
            self.sets,
            resource("statefulsets", "apps"),
            resource("replicationcontrollers"),
        ):
            self.cached[found.group, found.kind] = self.informer(found)
        self.pods = self.informer(resource("pods"))
        self.budgets = self.informer(self.resource)
        add_label_index(self.pods)
        self.selectors: dict[str, dict[str, Selector]] = {}
        """Of the budgets, by namespace and name: read once, matched with every pod's change."""
        self.budgets.on_change(self._budget_changed)
        self.pods.on_change(self._pod_changed)
        for informer in self.cached.values():
            informer.on_change(self._owner_changed)

    def _budget_changed(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        if new is not None:
            selector = from_label_selector(new["spec"].get("selector"))
            self.selectors.setdefault(namespace, {})[name] = selector
        else:
            self.selectors[namespace].pop(name, None)
            if not self.selectors[namespace]:
                del self.selectors[namespace]
        self.queue.add(Request(namespace, name))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """Wake the budgets that select the pod, or did."""
        seen = [pod for pod in (old, new) if pod is not None]
        namespace = seen[0]["metadata"]["namespace"]
        if namespace not in self.selectors:
            return
        if old is not None and new is not None and _fingerprint(old) == _fingerprint(new):
            return
        labels = [pod["metadata"].get("labels") or {} for pod in seen]
        now = []
        for name, selector in self.selectors[namespace].items():
            found = [selector.matches(item) for item in labels]
            if any(found):
                self.queue.add(Request(namespace, name))
            if found[-1]:
                now.append(name)
        if new is not None and len(now) > 1:
            # Evictions of it will be refused; it is said before that.
            text = (
                f'Pod "{namespace}"/"{new["metadata"]["name"]}" matches multiple '
                f'PodDisruptionBudgets.  Chose "{now[0]}" arbitrarily.'
            )
            self.recorder.event(new, WARNING, "MultiplePodDisruptionBudgets", text)

    def _owner_changed(self, old: Object | None, new: Object | None) -> None:
        """One that is scaled wants another number of pods, though none has changed yet."""
        if old is None or new is None or old["spec"] == new["spec"]:
            return
        if old["spec"].get("replicas") != new["spec"].get("replicas"):
            for budget in self.budgets.list(new["metadata"]["namespace"]):
                self.add(budget)

    async def reconcile(self, request: Request) -> Requeue | None:
        budget = self.budgets.get(*request)
        if budget is None:
            return None
        try:
            return await self._sync(request, budget)
        except Conflict:
            raise
        except (CountError, StatusError, OSError) as error:
            await self._report(budget, failed_status(budget, str(error), self.clock.now()))
            if isinstance(error, CountError):
                # Its pods must change first, which wakes us.
                return None
            raise

    async def _sync(self, request: Request, budget: Object) -> Requeue | None:
        pods = self._pods(budget)
        self.queue.rest(request, PACE_S * len(pods))
        if not pods:
            self.recorder.event(budget, NORMAL, "NoPods", "No matching pods found")
        scale = 0
        if needs_scale(budget):
            try:
                scale = await self._scale(budget, pods)
            except (CountError, StatusError, OSError) as error:
                text = f"Failed to calculate the number of expected pods: {error}"
                self.recorder.event(budget, WARNING, "CalculateExpectedPodCountFailed", text)
                raise
        now_s = self.clock.now()
        promised = disrupted(budget, pods, now_s)
        for pod in promised.overdue:
            meta = budget["metadata"]
            text = (
                f"Pod was expected by PDB {meta['namespace']}/{meta['name']} to be deleted but "
                "it wasn't"
            )
            self.recorder.event(pod, WARNING, "NotDeleted", text)
        observed = Observed(budget, pods, wanted(budget, len(pods), scale), now_s)
        await self._report(budget, status_of(observed, promised.pending))
        if promised.recheck_s is None:
            return None
        # Overdue is what is later than the moment itself.
        return Requeue(promised.recheck_s - now_s + 0.001)

    def _pods(self, budget: Object) -> Sequence[Object]:
        namespace, selector = budget["metadata"]["namespace"], budget["spec"].get("selector")
        if selector is None:
            return ()
        labels = selector.get("matchLabels")
        if labels and not selector.get("matchExpressions"):
            return [*selected(self.pods, namespace, labels)]
        matches = from_label_selector(selector).matches
        return [
            pod for pod in self.pods.list(namespace) if matches(pod["metadata"].get("labels") or {})
        ]

    async def _scale(self, budget: Object, pods: Sequence[Object]) -> int:
        """How many pods the owners of these want together. Raises CountError."""
        wants: dict[str, int] = {}
        seen: set[str] = set()
        unmanaged = False
        for pod in pods:
            reference = controller_of(pod)
            if reference is None:
                unmanaged = True
            elif reference["uid"] not in seen:
                seen.add(reference["uid"])
                uid, count = await self._wants(pod, reference)
                wants[uid] = count
        if unmanaged:
            text = UNMANAGED.format(selector_text(budget["spec"].get("selector")))
            self.recorder.event(budget, WARNING, "UnmanagedPods", text)
        return sum(wants.values())

    async def _wants(self, pod: Object, reference: Object) -> tuple[str, int]:
        """The owner that decides, and how many pods it wants."""
        namespace = pod["metadata"]["namespace"]
        owner = self._owner(reference, namespace)
        if owner is not None and refers_to(reference, self.sets):
            above = controller_of(owner)
            if above is not None and refers_to(above, self.deployments):
                owner = self._owner(above, namespace)
        if owner is not None:
            return owner["metadata"]["uid"], _replicas(owner)
        try:
            found = self.scales.resource(reference["apiVersion"], reference["kind"])
        except NoKindError as error:
            raise CountError(error) from None
        try:
            scale = await self.scales.get(found, namespace, reference["name"])
        except NotFound:
            if not self.scales.is_scalable(found):
                text = f"{_qualified(found)} does not implement the scale subresource"
                raise CountError(text) from None
            scale = {}
        if (scale.get("metadata") or {}).get("uid") != reference["uid"]:
            raise CountError(f'found no controllers for pod "{pod["metadata"]["name"]}"')
        return reference["uid"], replicas_of(scale)

    def _owner(self, reference: Object, namespace: str) -> Object | None:
        group = reference["apiVersion"].rpartition("/")[0]
        informer = self.cached.get((group, reference["kind"]))
        found = informer.get(namespace, reference["name"]) if informer is not None else None
        if found is None or found["metadata"]["uid"] != reference["uid"]:
            return None
        return found

    async def _report(self, budget: Object, status: Object) -> None:
        await write_status(self.client, self.resource, budget, status)


class StaleDisruptionController(Controller):
    """Pods that were about to be disrupted, and after two minutes were not, say so no longer.

    A pod that has the condition has one appointment in the queue."""

    name = "stale_pod_disruption"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("pods")
        self.pods = self.informer(self.resource)
        self.pods.on_change(self._pod_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        left_s = stale_in_s(new, self.clock.now()) if new is not None else None
        if new is not None and left_s is not None:
            meta = new["metadata"]
            self.queue.add_after(Request(meta["namespace"], meta["name"]), left_s)

    async def reconcile(self, request: Request) -> Requeue | None:
        pod = self.pods.get(*request)
        left_s = stale_in_s(pod, self.clock.now()) if pod is not None else None
        if pod is None or left_s is None:
            return None
        if left_s:
            return Requeue(left_s)
        try:
            await self.client.update(self.resource, settled(pod, self.clock.now()), "status")
        except NotFound:
            return None
        return None


def _fingerprint(pod: Object) -> tuple[object, ...]:
    """What of a pod a budget's status is made from."""
    meta = pod["metadata"]
    return meta.get("labels"), podlib.is_terminating(pod), podlib.is_ready(pod), controller_uid(pod)


def _replicas(owner: Object) -> int:
    found = owner["spec"].get("replicas")
    return 1 if found is None else int(found)


def _qualified(found: Descriptor) -> str:
    return f"{found.plural}.{found.group}" if found.group else found.plural
