"""Takes away service accounts' old tokens that nobody uses (KEP-2799).

Only tokens that an account's `secrets` names, as old control planes made them by themselves: not
used for a year, and mounted by no pod. Such a Secret is first labelled as invalid, so that its
token is refused and the mistake can be undone, and deleted a year later. Nothing happens before
uses were noted for a year: a ConfigMap says since when they are.

One look a day, at cached secrets, accounts and pods.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sampan.api.errors import AlreadyExists, NotFound, Object
from sampan.api.resources import resource
from sampan.api.times import parse_time

from .legacytokens import ACCOUNT_NAME, ACCOUNT_UID, TYPE
from .runtime.controller import Context, Controller
from .runtime.queue import Request, Requeue

DAY_S = 86400.0
PERIOD_S = 365 * DAY_S
"""--legacy-service-account-token-clean-up-period."""
FIRST_S = 60.0
"""A start has better things to do."""
SINCE = "kube-apiserver-legacy-service-account-token-tracking"
HOME = "kube-system"
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
ALL = Request("", "all")


class LegacyTokenCleaner(Controller):
    """See the module."""

    name = "legacy_service_account_token_cleaner"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if context.options.token_key is None:
            return
        self.resource = resource("secrets")
        self.secrets = self.informer(self.resource, fields=f"type={TYPE}")
        self.accounts = self.informer(resource("serviceaccounts"))
        self.pods = self.informer(resource("pods"))
        self.queue.add_after(ALL, FIRST_S)

    async def reconcile(self, request: Request) -> Requeue:
        now_s = self.clock.now()
        # The whole day counts, for it is not known when on it the noting began.
        since_s = await self._since_s() + DAY_S
        if now_s >= since_s + PERIOD_S:
            for secret in self.secrets.list():
                if self._is_unused(secret, now_s):
                    await self._retire(secret, now_s)
        return Requeue(DAY_S)

    async def _since_s(self) -> float:
        """Since when uses are noted: from now on, if that was not written down."""
        maps, today = resource("configmaps"), _day(self.clock.now())
        try:
            found = await self.client.get(maps, SINCE, HOME)
        except NotFound:
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": SINCE, "namespace": HOME},
                "data": {"since": today},
            }
            try:
                found = await self.client.create(maps, body, HOME)
            except AlreadyExists:
                found = await self.client.get(maps, SINCE, HOME)
        since_s = _day_s((found.get("data") or {}).get("since"))
        if since_s is not None:
            return since_s
        await self.client.update(maps, {**found, "data": {"since": today}})
        return _day_s(today) or 0.0

    def _is_unused(self, secret: Object, now_s: float) -> bool:
        """Made and last used long ago, named by its account, and not mounted."""
        meta = secret["metadata"]
        annotations, labels = meta.get("annotations") or {}, meta.get("labels") or {}
        if meta.get("deletionTimestamp"):
            return False
        if parse_time(meta["creationTimestamp"]) > now_s - PERIOD_S:
            return False
        account = self.accounts.get(meta["namespace"], annotations.get(ACCOUNT_NAME, ""))
        if account is None or account["metadata"]["uid"] != annotations.get(ACCOUNT_UID):
            return False
        if meta["name"] not in [item.get("name") for item in account.get("secrets") or ()]:
            return False
        if LAST_USED in labels:
            used_s = _day_s(labels[LAST_USED])
            # What cannot be read is left alone.
            if used_s is None or used_s > now_s - PERIOD_S:
                return False
        return not self._is_mounted(meta["namespace"], meta["name"])

    def _is_mounted(self, namespace: str, name: str) -> bool:
        return any(
            (volume.get("secret") or {}).get("secretName") == name
            for pod in self.pods.list(namespace)
            for volume in pod["spec"].get("volumes") or ()
        )

    async def _retire(self, secret: Object, now_s: float) -> None:
        """Label it as invalid; delete it if it has been for long enough."""
        meta = secret["metadata"]
        labels = meta.get("labels") or {}
        since_s = _day_s(labels.get(INVALID_SINCE))
        try:
            if since_s is None:
                marked = {**labels, INVALID_SINCE: _day(now_s)}
                body = {**secret, "metadata": {**meta, "labels": marked}}
                await self.client.update(self.resource, body)
            elif since_s <= now_s - PERIOD_S:
                guards = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
                options = {"preconditions": guards}
                await self.client.delete(self.resource, meta["name"], meta["namespace"], options)
        except NotFound:
            return


def _day(now_s: float) -> str:
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%d")


def _day_s(text: str | None) -> float | None:
    """When a day began; None if the text is none."""
    try:
        return datetime.strptime(text or "", "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
