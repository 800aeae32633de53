"""What autoscalers measure by: the three metrics APIs, read through the API server.

metrics.k8s.io is served by the cluster; custom.metrics.k8s.io and external.metrics.k8s.io are
there if an APIService adds them. Values are in thousandths, as upstream counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.selectors import Selector, from_label_selector
from sampan.api.times import TimeError, parse_duration_s, parse_time
from sampan.client.api import Client
from sampan.wire.quantity import QuantityError, milli

from .runtime.scales import NoKindError, Scales

RESOURCE = "/apis/metrics.k8s.io/v1beta1"
CUSTOM_GROUP, CUSTOM_VERSIONS = "custom.metrics.k8s.io", ("v1beta2", "v1beta1")
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
WINDOW_S = 60.0
"""Of a custom metric that does not say its own (metricServerDefaultMetricWindow)."""


class MetricsError(Exception):
    """Metrics could not be had; the text is upstream's."""


class Sample(NamedTuple):
    """What one pod uses."""

    milli: int
    since_s: float
    """When it was measured."""
    window_s: float
    """Over what time."""


Samples = dict[str, Sample]
"""By the pod's name."""

FAULTS = (StatusError, OSError, QuantityError, TimeError, KeyError, TypeError, ValueError)
"""What a metrics server of any quality may cause."""


class MetricsReader:
    """Asks for metrics; every method raises MetricsError. Nothing is kept."""

    def __init__(self, client: Client, scales: Scales) -> None:
        self._client = client
        self._scales = scales

    async def _get(self, path: str, **query: str) -> Object:
        asked = {key: value for key, value in query.items() if value}
        return await self._client.transport.request("GET", path, query=asked)

    async def resource(
        self, namespace: str, selector: Selector, name: str, container: str = ""
    ) -> Samples:
        """CPU, memory or another resource of pods, or of one container of each."""
        path = f"{RESOURCE}/namespaces/{namespace}/pods"
        try:
            items = (await self._get(path, labelSelector=str(selector)))["items"]
        except FAULTS as error:
            raise MetricsError(
                f"unable to fetch metrics from resource metrics API: {error}"
            ) from None
        if not items:
            raise MetricsError("no metrics returned from resource metrics API")
        try:
            return {
                item["metadata"]["name"]: sample
                for item in items
                if (sample := _resource_sample(item, name, container)) is not None
            }
        except FAULTS as error:
            raise MetricsError(f"failed to get container metrics: {error}") from None

    async def pods(
        self, namespace: str, selector: Selector, metric: str, labels: Object | None
    ) -> Samples:
        """A custom metric of each pod."""
        path = f"namespaces/{namespace}/pods/*/{metric}"
        items = await self._custom(path, labels, labelSelector=str(selector))
        try:
            return {item["describedObject"]["name"]: _custom_sample(item) for item in items}
        except FAULTS as error:
            raise _custom_error(error) from None

    async def object(
        self, namespace: str, described: Mapping[str, str], metric: str, labels: Object | None
    ) -> int:
        """A custom metric of one object, or of the namespace itself."""
        version, kind = described.get("apiVersion") or "", described["kind"]
        if kind == "Namespace" and "/" not in version:
            path = f"namespaces/{namespace}/metrics/{metric}"
        else:
            try:
                found = self._scales.resource(version, kind)
            except NoKindError as error:
                raise _custom_error(error) from None
            plural = f"{found.plural}.{found.group}" if found.group else found.plural
            path = f"namespaces/{namespace}/{plural}/{described['name']}/{metric}"
        items = await self._custom(path, labels)
        try:
            return milli(items[0]["value"])
        except FAULTS as error:
            raise _custom_error(error) from None

    async def external(self, namespace: str, metric: str, labels: Object | None) -> list[int]:
        """All values of a metric from outside the cluster."""
        path = f"{EXTERNAL}/namespaces/{namespace}/{metric}"
        try:
            answer = await self._get(path, labelSelector=_text(labels))
            values = [milli(item["value"]) for item in answer["items"]]
        except FAULTS as error:
            raise MetricsError(
                f"unable to fetch metrics from external metrics API: {error}"
            ) from None
        if not values:
            raise MetricsError("no metrics returned from external metrics API")
        return values

    async def _custom(self, path: str, labels: Object | None, **query: str) -> list[Object]:
        try:
            version = await self._custom_version()
            answer = await self._get(
                f"/apis/{CUSTOM_GROUP}/{version}/{path}", metricLabelSelector=_text(labels), **query
            )
            items: list[Object] = answer["items"]
        except FAULTS as error:
            raise _custom_error(error) from None
        if not items:
            raise MetricsError("no metrics returned from custom metrics API")
        return items

    async def _custom_version(self) -> str:
        """The preferred one of those that we understand."""
        nothing = f"no custom metrics API ({CUSTOM_GROUP}) registered"
        try:
            group = await self._get(f"/apis/{CUSTOM_GROUP}")
        except NotFound:
            raise NotFound(nothing) from None
        served = [item["version"] for item in group["versions"]]
        for version in (group["preferredVersion"]["version"], *CUSTOM_VERSIONS):
            if version in CUSTOM_VERSIONS and version in served:
                return str(version)
        raise NotFound(nothing)


def _custom_error(error: object) -> MetricsError:
    return MetricsError(f"unable to fetch metrics from custom metrics API: {error}")


def _text(labels: Object | None) -> str:
    """A metric's selector; none selects all of its series."""
    return str(from_label_selector(labels)) if labels else ""


def _resource_sample(item: Object, name: str, container: str) -> Sample | None:
    """None if the pod does not say. Raises KeyError for a container that is not there."""
    parts = item.get("containers") or ()
    if container:
        parts = [part for part in parts if part["name"] == container]
        if not parts:
            meta = item["metadata"]
            raise MetricsError(
                f"failed to get container metrics: container {container} not present in metrics "
                f"for pod {meta.get('namespace', '')}/{meta['name']}"
            )
    if not parts or any(name not in part["usage"] for part in parts):
        return None
    total = sum(milli(part["usage"][name]) for part in parts)
    return Sample(total, parse_time(item["timestamp"]), parse_duration_s(item["window"]))


def _custom_sample(item: Object) -> Sample:
    """The window is `window` in v1beta1 and `windowSeconds` in v1beta2."""
    window = item.get("windowSeconds", item.get("window"))
    over_s = WINDOW_S if window is None else float(window)
    return Sample(milli(item["value"]), parse_time(item["timestamp"]), over_s)
