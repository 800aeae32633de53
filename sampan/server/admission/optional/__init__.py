"""Plugins that upstream leaves off: `admission.yaml` enables them (`enable: [...]`).

One file each, with `make(settings)`, imported only where it is enabled: a cluster that asks for
none pays nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from ..configuration import Settings
from ..plugin import Plugin

# name -> (module, the plugin of CHAIN it stands before). The order is upstream's
# (AllOrderedPlugins): those that stand before the same plugin keep the order of this table.
OPTIONAL: dict[str, tuple[str, str]] = {
    "NamespaceAutoProvision": ("namespaceautoprovision", "NamespaceLifecycle"),
    "NamespaceExists": ("namespaceexists", "LimitRanger"),
    "LimitPodHardAntiAffinityTopology": ("limitpodhardantiaffinitytopology", "LimitRanger"),
    "AlwaysPullImages": ("alwayspullimages", "PodSecurity"),
    "ImagePolicyWebhook": ("imagepolicywebhook", "PodSecurity"),
    "PodNodeSelector": ("podnodeselector", "Priority"),
    "PodTolerationRestriction": ("podtolerationrestriction", "DefaultStorageClass"),
    "EventRateLimit": ("eventratelimit", "DefaultStorageClass"),
    "ExtendedResourceToleration": ("extendedresourcetoleration", "DefaultStorageClass"),
    "OwnerReferencesPermissionEnforcement": (
        "ownerreferencespermissionenforcement",
        "PersistentVolumeClaimResize",
    ),
}


def inserted(chain: Sequence[Plugin], made: Sequence[Plugin]) -> tuple[Plugin, ...]:
    """The chain with plugins of OPTIONAL in their places."""
    order = list(OPTIONAL)
    out = list(chain)
    for plugin in sorted(made, key=lambda item: order.index(item.name)):
        before = OPTIONAL[plugin.name][1]
        at = next(at for at, item in enumerate(out) if item.name == before)
        out.insert(at, plugin)
    return tuple(out)


def make(settings: Settings) -> Plugin:
    """The plugin `settings.name`. Raises ValueError for a configuration that is no good."""
    module, _ = OPTIONAL[settings.name]
    made: Plugin = import_module(f".{module}", __name__).make(settings)
    return made
