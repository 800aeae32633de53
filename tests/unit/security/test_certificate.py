"""Subjects of certificates, read as the X.509 library reads them."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from sampan.wire.certificate import Malformed, read_requested, read_subject

KEY = ec.generate_private_key(ec.SECP256R1())
BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def certificate(attributes: list[x509.NameAttribute], end: datetime.datetime) -> bytes:
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "some ca")])
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(issuer)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGIN)
        .not_valid_after(end)
        .sign(KEY, hashes.SHA256())
    )
    return made.public_bytes(Encoding.DER)


@pytest.mark.parametrize("year", [2030, 2049, 2050, 2120])
@pytest.mark.parametrize("kind", [_ASN1Type.UTF8String, _ASN1Type.PrintableString])
def test_reads_name_groups_and_end(year: int, kind: _ASN1Type) -> None:
    end = datetime.datetime(year, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    der = certificate(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes", _type=kind),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "others", _type=kind),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "system:masters"),
            x509.NameAttribute(NameOID.COMMON_NAME, "system:node:a", _type=kind),
        ],
        end,
    )
    subject = read_subject(der)
    assert subject == ("system:node:a", ("system:nodes", "others"), end.timestamp(), "")


def test_a_name_beyond_ascii() -> None:
    der = certificate(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Jürgen 東")], BEGIN.replace(year=2040)
    )
    assert read_subject(der).common_name == "Jürgen 東"


def test_the_uid_of_a_user() -> None:
    uid = x509.NameAttribute(x509.ObjectIdentifier("1.3.6.1.4.1.57683.2"), "u-1")
    ann = x509.NameAttribute(NameOID.COMMON_NAME, "ann")
    later = BEGIN.replace(year=2040)
    assert read_subject(certificate([ann, uid], later)).uid == "u-1"
    assert read_subject(certificate([ann], later)).uid == ""
    with pytest.raises(Malformed):
        read_subject(certificate([ann, uid, uid], later))


def test_no_subject_at_all() -> None:
    der = certificate([], BEGIN.replace(year=2040))
    assert read_subject(der)[:2] == ("", ())


def test_every_cut_is_malformed_and_nothing_else() -> None:
    der = certificate([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 60)], BEGIN.replace(year=2040))
    for length in range(len(der)):
        with pytest.raises(Malformed):
            read_subject(der[:length])


def test_garbage_is_malformed_and_nothing_else() -> None:
    der = bytearray(
        certificate([x509.NameAttribute(NameOID.COMMON_NAME, "x")], BEGIN.replace(year=2040))
    )
    for at in range(len(der)):
        for value in (0x00, 0x7F, 0x80, 0xFF):
            changed = bytes(der[:at]) + bytes([value]) + bytes(der[at + 1 :])
            try:
                read_subject(changed)
            except Malformed:
                continue


def test_requests_are_read_too() -> None:
    names = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "bob"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
        ]
    )
    made = x509.CertificateSigningRequestBuilder().subject_name(names).sign(KEY, hashes.SHA256())
    der = made.public_bytes(Encoding.DER)
    assert read_requested(der) == ("bob", ("system:masters",))
    for length in range(len(der)):
        with pytest.raises(Malformed):
            read_requested(der[:length])
