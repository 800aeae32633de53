"""ClusterTrustBundle and what projects it: upstream's tables (pkg/apis/certificates/validation
TestValidateClusterTrustBundle, pkg/apis/core/validation)."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.kinds.certificates.clustertrustbundle import KIND
from sampan.api.kinds.core.podspec.default import default_spec
from sampan.api.kinds.core.podspec.filevolumes import check_projected
from sampan.wire.pem import write_block
from tests.kit.cluster import server_files

CA = (server_files() / "ca.crt").read_text()
LEAF = (server_files() / "server.crt").read_text()
SIGNER = "k8s.io/foo"
PATH = 'spec.trustBundle: Invalid value: "<value omitted>": '


def bundle(name: str, text: str = CA, signer: str = "") -> dict[str, Any]:
    spec = {"trustBundle": text} | ({"signerName": signer} if signer else {})
    return {"metadata": {"name": name}, "spec": spec}


def said(causes: list[Any]) -> list[str]:
    return [str(cause) for cause in causes]


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (bundle("k8s.io:foo:bar", signer=SIGNER), []),
        (bundle("bar"), []),
        (bundle("bar", f"comment\n{CA}\n"), []),
        (
            bundle("k8s.io:bar:foo", signer=SIGNER),
            [
                'metadata.name: Invalid value: "k8s.io:bar:foo": ClusterTrustBundle for signerName '
                "k8s.io/foo must be named with prefix k8s.io:foo:"
            ],
        ),
        (
            bundle("k8s.io:bar"),
            [
                'metadata.name: Invalid value: "k8s.io:bar": ClusterTrustBundle without signer '
                'name must not have ":" in its name'
            ],
        ),
        (bundle("bar", ""), [PATH + "at least one trust anchor must be provided"]),
        (bundle("bar", "garbage"), [PATH + "at least one trust anchor must be provided"]),
        (bundle("bar", CA + CA), [PATH + "duplicate trust anchor (indices [0 1])"]),
        (
            bundle("bar", CA + write_block("NOTACERTIFICATE", b"x")),
            [PATH + "entry 1 has bad block type: NOTACERTIFICATE"],
        ),
        (
            bundle("bar", CA.replace("CERTIFICATE-----\n", "CERTIFICATE-----\nkey: value\n\n", 1)),
            [PATH + "entry 0 has PEM block headers"],
        ),
        (
            bundle("bar", write_block("CERTIFICATE", b"x")),
            [PATH + "entry 0 does not parse as X.509"],
        ),
        (bundle("bar", LEAF), [PATH + "entry 0 does not have the CA bit set"]),
        (
            bundle("bar", "x" * ((1 << 20) + 1)),
            ["spec.trustBundle: Too long: may not be more than 1048576 bytes"],
        ),
    ],
)
def test_what_a_bundle_may_be(made: dict[str, Any], wanted: list[str]) -> None:
    assert said(KIND.validate(made, None)) == wanted


def test_its_signer_stays_and_old_text_is_not_read_again() -> None:
    old = bundle("bar", "from another time")
    assert said(KIND.validate(old, old)) == []
    moved = bundle("k8s.io:foo:bar", signer=SIGNER)
    found = said(KIND.validate(moved, bundle("k8s.io:foo:bar")))
    assert found == ['spec.signerName: Invalid value: "k8s.io/foo": field is immutable']


WHERE = "p.sources[0].clusterTrustBundlePEM"
SOURCES: list[tuple[dict[str, Any], list[str]]] = [
    ({"name": "foo", "path": "ca"}, []),
    ({"name": "example.com:s:foo", "path": "ca"}, []),
    ({"signerName": SIGNER, "labelSelector": {"matchLabels": {"a": "b"}}, "path": "ca"}, []),
    ({"path": "ca"}, [f"{WHERE}: Required value: either name or signerName must be specified"]),
    (
        {"name": "foo", "labelSelector": {}, "path": "ca"},
        [f"{WHERE}.labelSelector: Invalid value: {{}}: "
         "labelSelector must be unset if name is specified"],
    ),
    ({"name": "foo"}, [f"{WHERE}.path: Required value"]),
    (
        {"name": "foo", "path": "../ca"},
        [f'{WHERE}.path: Invalid value: "../ca": must not contain \'..\''],
    ),
    (
        {"signerName": "example.com/" + "a" * 600, "path": "ca"},
        [f'{WHERE}.signerName: Invalid value: "{"a" * 600}": validating label "{"a" * 600}": '
         "must be no more than 253 bytes", f"{WHERE}.signerName: Too long: may not be more than "
         "571 bytes"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("source", "wanted"), SOURCES)
def test_what_may_be_projected(source: dict[str, Any], wanted: list[str]) -> None:
    out: list[Any] = []
    check_projected({"sources": [{"clusterTrustBundle": source}]}, "p", out)
    assert said(out) == wanted


def test_both_ways_at_once_and_wrong_names() -> None:
    both = {"name": "foo", "signerName": SIGNER, "path": "ca"}
    out: list[Any] = []
    check_projected({"sources": [{"clusterTrustBundle": both}]}, "p", out)
    assert out[0].text.endswith("only one of name and signerName may be used")
    out.clear()
    check_projected({"sources": [{"clusterTrustBundle": {"name": "A", "path": "a"}}]}, "p", out)
    assert "not a valid clustertrustbundlename: a lowercase RFC 1123" in out[0].text


def test_pod_certificates_are_off_by_default() -> None:
    """PodCertificateRequest is a beta gate that is off in 1.36: the field is dropped."""
    source: dict[str, Any] = {"podCertificate": {"signerName": "a/b", "keyType": "ED25519"}}
    spec = {"containers": [], "volumes": [{"name": "v", "projected": {"sources": [source]}}]}
    default_spec(spec)
    assert source == {}
