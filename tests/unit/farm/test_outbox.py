import hashlib
import hmac

import pytest

from scail2_farm.farm.outbox import sign, verify

BODY = '{"event":"shot-done","shot":"SH010 ä"}'.encode()
STAMP = "1700000000"
# printf '1700000000.{"event":"shot-done","shot":"SH010 ä"}' | openssl dgst -sha256 -hmac 's3cret ü'
BY_OPENSSL = "sha256=2005160ba9a6b2268277c8f13fd50239d0ee2a9d2c15a0f441ba3e75df2ffbb3"


def test_a_signature_is_the_hmac_of_timestamp_and_body():
    assert sign("s3cret ü", STAMP, BODY) == BY_OPENSSL
    assert BY_OPENSSL[7:] == hmac.digest("s3cret ü".encode(), STAMP.encode() + b"." + BODY, hashlib.sha256).hex()


def test_a_true_signature_verifies():
    assert verify("s3cret ü", STAMP, BODY, BY_OPENSSL)


@pytest.mark.parametrize(
    "changed",
    [
        ("s3cret", STAMP, BODY, BY_OPENSSL),
        ("s3cret ü", "1700000001", BODY, BY_OPENSSL),
        ("s3cret ü", STAMP, BODY + b" ", BY_OPENSSL),
        ("s3cret ü", STAMP[:-1], b"0." + BODY, BY_OPENSSL),
        ("s3cret ü", STAMP, BODY, BY_OPENSSL[:-1]),
        ("s3cret ü", STAMP, BODY, BY_OPENSSL.upper()),
        ("s3cret ü", STAMP, BODY, BY_OPENSSL.removeprefix("sha256=")),
        ("s3cret ü", STAMP, BODY, ""),
        ("s3cret ü", STAMP, BODY, "sha256=ä\udcff"),
    ],
)
def test_anything_else_does_not(changed):
    assert verify(*changed) is False
