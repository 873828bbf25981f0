"""Over TLS a server is who it says it is, or nothing is sent to it."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from palimpsest.fetch.addresses import chooser
from palimpsest.fetch.connection import Client
from palimpsest.fetch.transfer import fetch_small


@pytest.fixture
def certificate(tmp_path):
    """A key and a certificate of 127.0.0.1 that it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "palimpsest test")])
    now = dt.datetime.now(dt.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - dt.timedelta(1), now + dt.timedelta(1))
        .add_extension(alternative, False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *plain) + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.mark.parametrize("trusted", [True, False])
def test_a_server_is_trusted_by_its_certificate(site, how, certificate, monkeypatch, trusted):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
    site.files["page"] = b"hello"
    url = site.url.replace("http:", "https:") + "page"
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for choose in (None, chooser(["127.0.0.0/8"])):
        with Client(1, 5.0, choose) as client:
            if trusted:
                assert fetch_small(url, client, how)[0] == b"hello"
            else:
                with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED|certificate"):
                    fetch_small(url, client, how)
    assert len(site.asked) == (2 if trusted else 0)
