"""Projected volumes: several sources in one directory. Pure; tokens are an input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sampan.api.errors import Object

from .atomic import File
from .bundles import trust_anchors
from .downward import downward_files
from .keyed import keyed_files
from .source import DEFAULT_MODE, TOKEN_MODE_OWNED, Sources, VolumeError

TOKEN_SECONDS = 3600


def projected_files(projected: Mapping[str, Any], sources: Sources) -> dict[str, File]:
    """Later sources win over earlier ones at the same path."""
    mode = projected.get("defaultMode", DEFAULT_MODE)
    out: dict[str, File] = {}
    for source in projected.get("sources") or ():
        for field, plural in (("configMap", "configmaps"), ("secret", "secrets")):
            part = source.get(field)
            if part is not None:
                with_mode = {"defaultMode": mode} | part
                out |= keyed_files(plural, part.get("name", ""), with_mode, sources)
        if source.get("downwardAPI") is not None:
            out |= downward_files(source["downwardAPI"].get("items") or (), mode, sources)
        bundle = source.get("clusterTrustBundle")
        if bundle is not None:
            anchors = trust_anchors(bundle, sources.bundles)
            out[bundle["path"]] = _owned(anchors, mode, sources)
        wanted = source.get("serviceAccountToken")
        if wanted is not None:
            token = sources.tokens.get(token_key(wanted))
            if token is None:
                raise VolumeError("the service account's token has not been issued yet")
            out[wanted["path"]] = _owned(token.text.encode(), mode, sources)
    return out


def _owned(content: bytes, mode: int, sources: Sources) -> File:
    """A file that is its user's alone, when it is known who that is."""
    owned = sources.fs_user >= 0 or sources.fs_group >= 0
    return File(content, TOKEN_MODE_OWNED if owned else mode, sources.fs_user)


def token_key(wanted: Mapping[str, Any]) -> tuple[str, int]:
    """(audience, expirationSeconds) of a serviceAccountToken source."""
    return wanted.get("audience", ""), int(wanted.get("expirationSeconds") or TOKEN_SECONDS)


def wanted_tokens(pod: Object) -> set[tuple[str, int]]:
    """The tokens a pod's volumes carry."""
    return {
        token_key(source["serviceAccountToken"])
        for volume in pod["spec"].get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
        if source.get("serviceAccountToken") is not None
    }
