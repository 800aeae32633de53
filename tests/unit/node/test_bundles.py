"""clusterTrustBundle sources (pkg/kubelet/clustertrustbundle): by name, by signer, and missing."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.node.objects import BUNDLES, references
from sampan.node.volumes.bundles import NO_MATCH, trust_anchors
from sampan.node.volumes.place import files
from sampan.node.volumes.source import Sources, VolumeError
from sampan.wire.pem import write_block

from .test_volumes import sources

ONE, TWO, THREE = (write_block("CERTIFICATE", text) for text in (b"1", b"2", b"3"))
SIGNER = "example.com/s"


def bundle(name: str, *anchors: str, signer: str = "", **labels: str) -> dict[str, Any]:
    spec = {"trustBundle": "".join(anchors)}
    if signer:
        spec["signerName"] = signer
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


KNOWN = (
    bundle("plain", "a comment\n", TWO, ONE, ONE),
    bundle("example.com:s:a", ONE, signer=SIGNER, of="a"),
    bundle("example.com:s:b", TWO, ONE, signer=SIGNER, of="b"),
    bundle("example.com:t:a", THREE, signer="example.com/t", of="a"),
)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"name": "plain"}, ONE + TWO),
        ({"signerName": SIGNER, "labelSelector": {}}, ONE + TWO),
        ({"signerName": SIGNER, "labelSelector": {"matchLabels": {"of": "a"}}}, ONE),
        ({"signerName": SIGNER, "optional": True}, ""),
        ({"name": "missing", "optional": True}, ""),
    ],
)
def test_anchors_are_written_once(wanted: dict[str, Any], found: str) -> None:
    assert trust_anchors(wanted, KNOWN).decode() == found


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (
            {"name": "missing"},
            "while getting ClusterTrustBundle: "
            'clustertrustbundle.certificates.k8s.io "missing" not found',
        ),
        ({"signerName": SIGNER}, NO_MATCH),
        ({"signerName": "example.com/none", "labelSelector": {}}, NO_MATCH),
        ({}, "ClusterTrustBundle projection requires either name or signerName to be set"),
    ],
)
def test_what_is_missing_is_told(wanted: dict[str, Any], text: str) -> None:
    with pytest.raises(VolumeError) as caught:
        trust_anchors(wanted, KNOWN)
    assert str(caught.value) == text


def test_a_pod_with_a_bundle_watches_all_of_them() -> None:
    source = {"clusterTrustBundle": {"name": "plain", "path": "ca.pem"}}
    volume = {"name": "v", "projected": {"defaultMode": 0o440, "sources": [source]}}
    plain = sources([volume])
    assert references(plain.facts.pod) == {BUNDLES}
    known = Sources(plain.facts, plain.lookup, plain.tokens, KNOWN)
    made = files(volume, known)
    assert made is not None
    assert made["ca.pem"].mode == 0o440
    # Like a token, it is its user's alone where that is known.
    owned = sources([volume], securityContext={"runAsUser": 7})
    made = files(volume, Sources(owned.facts, owned.lookup, owned.tokens, KNOWN))
    assert made is not None
    assert (made["ca.pem"].mode, made["ca.pem"].uid) == (0o600, 7)
