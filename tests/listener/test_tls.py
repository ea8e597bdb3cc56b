"""TLS, mutual TLS, and certificates that change."""

from __future__ import annotations

import http.client
import shutil
import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest

from .kit import METHOD, PROTOBUF, Serving, export_request, serving

HERE = Path(__file__).parent / "certificates"


def pem(name: str) -> bytes:
    return (HERE / name).read_bytes()


def settings(name: str = "server", **more: Any) -> dict[str, Any]:
    return {"cert_pem": pem(f"{name}.pem").decode(), "key_pem": pem(f"{name}.key").decode(), **more}


def client(certificate: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(HERE / "ca.pem"))
    if certificate:
        context.load_cert_chain(HERE / f"{certificate}.pem", HERE / f"{certificate}.key")
    return context


def post(at: Serving, context: ssl.SSLContext) -> tuple[int, str]:
    """Status, and the common name of the server's certificate."""
    connection = http.client.HTTPSConnection("127.0.0.1", at.port, timeout=10, context=context)
    try:
        connection.request("POST", "/v1/traces", export_request(), PROTOBUF)
        subject = connection.sock.getpeercert()["subject"]
        return connection.getresponse().status, subject[0][0][1]
    finally:
        connection.close()


def test_http_and_grpc_are_served_over_tls():
    with serving(tls=settings()) as at:
        assert post(at, client()) == (200, "server")
        credentials = grpc.ssl_channel_credentials(pem("ca.pem"))
        with grpc.secure_channel(f"localhost:{at.port}", credentials) as channel:
            assert channel.unary_unary(METHOD)(export_request(), timeout=10) == b""


def test_plain_text_on_a_tls_port_is_counted_and_harmless():
    with serving(tls=settings()) as at:
        with pytest.raises((http.client.HTTPException, OSError)):
            at.post(export_request())
        at.await_count("tls_errors", 1)
        assert post(at, client()) == (200, "server")


def test_mutual_tls_wants_a_certificate_of_its_authority():
    with serving(tls=settings(client_ca_file=str(HERE / "ca.pem"))) as at:
        with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
            post(at, client())
        at.await_count("tls_errors", 1)
        assert post(at, client("client")) == (200, "server")


def test_set_tls_is_for_new_connections_and_keeps_the_old_when_wrong():
    with serving(tls=settings()) as at:
        at.server.set_tls(settings("other"))
        assert post(at, client()) == (200, "other")
        with pytest.raises(ValueError, match="do not fit"):
            at.server.set_tls(settings() | {"key_pem": pem("other.key")})
        assert post(at, client()) == (200, "other")


def test_files_are_read_again_and_a_broken_one_leaves_the_old(tmp_path):
    for part in ("pem", "key"):
        shutil.copy(HERE / f"server.{part}", tmp_path / f"live.{part}")
    files = {"cert_file": str(tmp_path / "live.pem"), "key_file": str(tmp_path / "live.key")}
    with serving(tls=files | {"reload_interval_s": 0.000001}) as at:
        assert post(at, client()) == (200, "server")
        for part in ("pem", "key"):
            shutil.copy(HERE / f"other.{part}", tmp_path / f"live.{part}")
        assert post(at, client()) == (200, "other")
        (tmp_path / "live.pem").write_text("not PEM")
        assert post(at, client()) == (200, "other")
        assert at.count("tls_errors") == 1


def test_old_versions_are_refused_where_a_newer_is_wanted():
    with serving(tls=settings(min_version="1.3")) as at:
        old = client()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            post(at, old)
        assert post(at, client()) == (200, "server")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cert_pem": ""}, "no certificate"),
        ({"cert_file": "/nowhere/cert.pem"}, "/nowhere/cert.pem"),
        ({"min_version": "1.0"}, "1.2 and 1.3"),
        ({"min_version": "1.3", "max_version": "1.2"}, "above"),
        ({"cipher_suites": ["TLS_RSA_WITH_RC4_128_SHA"]}, "RC4"),
        ({"curve_preferences": ["P521"]}, "P521"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_wrong_settings_say_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message), serving(tls=settings() | wrong):
        pass
