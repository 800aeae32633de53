"""What a write must pass before it is stored. `CHAIN` is the ordered table, one file per plugin.

Plugins change or refuse objects; they store nothing. For each kind of request the plugins that
handle it are picked once and remembered, so a request that none is about costs one lookup.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from sampan.api.errors import StatusError

from ..exchange import Write
from . import (
    certificateapproval,
    certificaterequestor,
    certificatesigning,
    certificatesubjectrestriction,
    clustertrustbundleattest,
    defaultingressclass,
    defaultstorageclass,
    defaulttolerationseconds,
    denyserviceexternalips,
    deviceclaims,
    limitranger,
    namespacelifecycle,
    noderestriction,
    persistentvolumeclaimresize,
    podresizevalidator,
    podsecurity,
    podtopologylabels,
    policies,
    priority,
    rbacescalation,
    resourcequota,
    runtimeclass,
    serviceaccount,
    storageobjectinuseprotection,
    taintnodesbycondition,
    webhooks,
)
from .lookups import Lookups
from .metrics import ADMIT, VALIDATE, AdmissionMetrics, Timing
from .plugin import Plugin, Step
from .switches import allowed

if TYPE_CHECKING:
    from ..app import Server

__all__ = ["CHAIN", "Admission", "Plugin"]

# The order is upstream's (AllOrderedPlugins): each plugin sees what those above it have set. Left
# out are those of kinds that are off by default upstream and not served here: PodGroup and
# Workload (PodGroupProtection, PodGroupWorkloadExists, JobValidation); and
# NodeDeclaredFeatureValidator, as nodes declare no features.
CHAIN: tuple[Plugin, ...] = (
    namespacelifecycle.PLUGIN,  # first, so that a missing namespace is what one hears about
    limitranger.PLUGIN,  # requests and limits, before anything counts them
    serviceaccount.PLUGIN,
    noderestriction.PLUGIN,
    taintnodesbycondition.PLUGIN,
    podsecurity.PLUGIN,
    priority.PLUGIN,
    defaulttolerationseconds.PLUGIN,
    defaultstorageclass.PLUGIN,
    storageobjectinuseprotection.PLUGIN,
    persistentvolumeclaimresize.PLUGIN,
    runtimeclass.PLUGIN,
    certificaterequestor.PLUGIN,
    certificateapproval.PLUGIN,
    certificatesigning.PLUGIN,
    clustertrustbundleattest.PLUGIN,
    certificatesubjectrestriction.PLUGIN,
    defaultingressclass.PLUGIN,
    denyserviceexternalips.PLUGIN,
    podtopologylabels.PLUGIN,
    podresizevalidator.PLUGIN,
    rbacescalation.PLUGIN,
    deviceclaims.PLUGIN,
    policies.MUTATING,  # behind all that change objects by themselves
    webhooks.MUTATING,
    policies.VALIDATING,
    webhooks.VALIDATING,
    resourcequota.PLUGIN,  # last: what anybody else refuses is never charged
)


Timed = tuple[tuple[Step, Timing], ...]


class _Steps(NamedTuple):
    mutate: Timed
    validate: Timed


class Admission:
    """Runs the chain. Memory: one entry per (resource, subresource, operation) served."""

    def __init__(self, server: Server, chain: tuple[Plugin, ...] = CHAIN) -> None:
        self._server = server
        self._chain = allowed(chain, server.config.folder)
        self._steps: dict[tuple[str, str, str, str], _Steps] = {}
        self._steps_taken: dict[tuple[str, str], Timing] = {}
        self.lookups = Lookups()
        self.metrics = AdmissionMetrics()
        self.hooks = webhooks.Hooks(server)
        self.policies = policies.Policies(server)
        self.pod_security = podsecurity.Configuration()
        self.quotas = resourcequota.Quotas(server)

    def start(self) -> None:
        """Follow what plugins look up. The server's cache must be open."""
        self._server.expositions.append(self.metrics.exposition)
        self.lookups.start(self._server)
        self.hooks.start()
        self.policies.start()
        self.pod_security = podsecurity.configuration_of(self._server.config.folder)
        self.quotas.start()

    def forget(self) -> None:
        """Pick the chains anew: whether a plugin is active has changed."""
        self._steps.clear()

    async def admit(self, write: Write) -> None:
        """The mutating pass, before defaults and validation; run a second time when a plugin
        changed what an earlier one has seen and wants to see again. Raises StatusErrors."""
        steps = self._find(write).mutate
        await self._run(steps, write, ADMIT)
        if write.again:
            write.passes.second = True
            await self._run(steps, write, ADMIT)

    async def validate(self, write: Write) -> None:
        """The validating pass, on the object as it will be stored; the only one for deletions.
        Raises StatusErrors."""
        await self._run(self._find(write).validate, write, VALIDATE)

    async def _run(self, steps: Timed, write: Write, kind: str) -> None:
        began = last = perf_counter()
        timing: Timing | None = None
        try:
            for step, timing in steps:
                pending = step(self._server, write)
                if pending is not None:
                    await pending
                now = perf_counter()
                timing.passed.add(now - last)
                last = now
        except StatusError:
            now = perf_counter()
            if timing is not None:
                timing.refused.add(now - last)
            self._whole(kind, write.operation).refused.add(now - began)
            raise
        self._whole(kind, write.operation).passed.add(last - began)

    def _whole(self, kind: str, operation: str) -> Timing:
        found = self._steps_taken.get((kind, operation))
        if found is None:
            found = self._steps_taken[kind, operation] = self.metrics.step(kind, operation)
        return found

    def _find(self, write: Write) -> _Steps:
        attributes = write.attributes
        target = attributes.resource
        if target is None:
            return _Steps((), ())
        key = (target.group, target.plural, attributes.subresource, write.operation)
        steps = self._steps.get(key)
        if steps is None:
            steps = self._steps[key] = self._pick(*key)
        return steps

    def _pick(self, group: str, plural: str, subresource: str, operation: str) -> _Steps:
        name = f"{plural}/{subresource}" if subresource else plural
        picked = [
            plugin
            for plugin in self._chain
            if plugin.handles(group, name, operation)
            and (plugin.active is None or plugin.active(self._server))
        ]
        mutating = tuple(
            (plugin.mutate, self.metrics.plugin(plugin.name, ADMIT, operation))
            for plugin in picked
            if plugin.mutate is not None
        )
        validating = tuple(
            (plugin.validate, self.metrics.plugin(plugin.name, VALIDATE, operation))
            for plugin in picked
            if plugin.validate is not None
        )
        # A deletion has nothing to change, so it has one pass.
        return (
            _Steps((), mutating + validating)
            if operation == "DELETE"
            else _Steps(mutating, validating)
        )
