"""clusterTrustBundle sources of projected volumes: the trust anchors of one bundle by name, or of
all of a signer's that a selector finds. Pure.

Source: pkg/kubelet/clustertrustbundle. What stands between the certificates is left out, each is
written once, and their order says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sampan.api.errors import Object
from sampan.api.selectors import from_label_selector
from sampan.wire.pem import read_blocks, write_block

from .source import VolumeError

NO_MATCH = "combination of signerName and labelSelector matched zero ClusterTrustBundles"


def trust_anchors(wanted: Mapping[str, Any], bundles: Iterable[Object]) -> bytes:
    """The file of a source; empty when what it names is optional and not there. Raises
    VolumeError."""
    name, signer = wanted.get("name"), wanted.get("signerName")
    if name is None and signer is None:
        text = "ClusterTrustBundle projection requires either name or signerName to be set"
        raise VolumeError(text)
    if name is not None:
        found = [item for item in bundles if item["metadata"]["name"] == name]
        missing = (
            "while getting ClusterTrustBundle: "
            f'clustertrustbundle.certificates.k8s.io "{name}" not found'
        )
    else:
        selector = from_label_selector(wanted.get("labelSelector"))
        found = [
            item
            for item in bundles
            if (item["spec"].get("signerName") or "") == signer
            and selector.matches(item["metadata"].get("labels") or {})
        ]
        missing = NO_MATCH
    if not found and not wanted.get("optional"):
        raise VolumeError(missing)
    anchors = {block.data for item in found for block in read_blocks(item["spec"]["trustBundle"])}
    return "".join(write_block("CERTIFICATE", data) for data in sorted(anchors)).encode()
