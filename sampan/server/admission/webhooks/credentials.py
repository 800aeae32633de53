"""Who the server says it is to admission webhooks (WebhookAdmissionConfiguration's kubeconfig).

Users are named for whom they are shown to, as upstream's webhook.AuthenticationInfoResolver looks
them up: `NAME.NAMESPACE.svc` (with `:PORT` unless it is 443) or the URL's `host:port`, then
`*.suffix` from the longest on, then `*`, then the current context's user. Nobody else is shown any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sampan.client.kubeconfig import Access, read_users

from ...webhooks.files import with_credentials
from ...webhooks.target import DEFAULT_PORT, Target
from ..configuration import settings_of, versioned

VERSION, KIND = "apiserver.config.k8s.io/v1", "WebhookAdmissionConfiguration"
PLUGINS = {"admit": "MutatingAdmissionWebhook", "validate": "ValidatingAdmissionWebhook"}
REMEMBERED = 1024
"""Targets whose credentials are remembered; beyond, all are forgotten and found again."""


class Credentials:
    """The users of one file. Memory: one target for each that was called."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError (KubeconfigError) for a file that is no good."""
        self._users, self._current = read_users(path)
        self._shown: dict[Target, Target] = {}

    def shown_to(self, target: Target) -> Target:
        """The target with what it is shown."""
        found = self._shown.get(target)
        if found is None:
            access = self._find(target)
            found = target if access is None else with_credentials(target, access)
            if len(self._shown) >= REMEMBERED:
                self._shown.clear()
            self._shown[target] = found
        return found

    def _find(self, target: Target) -> Access | None:
        return next(
            (self._users[name] for name in self._names(target) if name in self._users), None
        )

    def _names(self, target: Target) -> Iterator[str]:
        url = urlsplit(target.url)
        host, port = url.hostname or "", url.port or DEFAULT_PORT
        places = [f"{host}:{port}", *([host] if port == DEFAULT_PORT else [])]
        yield from places
        for place in places:
            parts = place.split(".")
            yield from ("*." + ".".join(parts[at:]) for at in range(1, len(parts)))
        yield "*"
        yield self._current


def credentials_of(folder: Path | None) -> Mapping[str, Credentials]:
    """By the kind of webhook ("admit", "validate"). Raises ValueError and OSError: a cluster must
    not start otherwise than asked."""
    out = {}
    for kind, plugin in PLUGINS.items():
        settings = settings_of(folder, plugin)
        file = versioned(settings, VERSION, KIND, ("kubeConfigFile",)).get("kubeConfigFile")
        if file:
            out[kind] = Credentials(settings.folder / str(file))
    return out
