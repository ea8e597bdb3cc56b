"""TLS of clients: the settings as the native client wants them, and as Python's `ssl` does."""

from __future__ import annotations

import os
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from colonnade.pipeline.settings import TLSClient

# Where distributions keep their authorities in one file; Python itself may know no more than a folder.
BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def native_arguments(tls: TLSClient) -> dict[str, Any]:
    """The `tls` of `native.Channel`. Reads the system's authorities where they are to be trusted."""
    own = bool(tls.ca_file or tls.ca_pem)
    wants_system = not tls.insecure_skip_verify and (tls.include_system_ca_certs_pool or not own)
    return {
        "ca_file": tls.ca_file,
        "ca_pem": tls.ca_pem.reveal(),
        "roots": system_authorities() if wants_system else [],
        "cert_file": tls.cert_file,
        "cert_pem": tls.cert_pem.reveal(),
        "key_file": tls.key_file,
        "key_pem": tls.key_pem.reveal(),
        "min_version": tls.min_version,
        "max_version": tls.max_version,
        "cipher_suites": list(tls.cipher_suites),
        "curve_preferences": list(tls.curve_preferences),
        "skip_verify": tls.insecure_skip_verify,
        "server_name": tls.server_name_override,
    }


def system_authorities() -> list[bytes]:
    """The system's authorities in DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _trust_system(context)
    return context.get_ca_certs(binary_form=True)


def ssl_context(tls: TLSClient) -> ssl.SSLContext:
    """The same for Python's clients. Raises OSError (ssl.SSLError is one) with what can not be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    versions = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
    context.minimum_version, context.maximum_version = versions[tls.min_version], versions[tls.max_version]
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.ca_file:
        context.load_verify_locations(cafile=tls.ca_file)
    if tls.ca_pem:
        context.load_verify_locations(cadata=tls.ca_pem.reveal())
    if tls.include_system_ca_certs_pool or not (tls.ca_file or tls.ca_pem):
        _trust_system(context)
    if tls.cert_file or tls.cert_pem:
        with _file(tls.cert_file, tls.cert_pem.reveal()) as cert, _file(tls.key_file, tls.key_pem.reveal()) as key:
            context.load_cert_chain(cert, key)
    return context


def _trust_system(context: ssl.SSLContext) -> None:
    context.load_default_certs()
    if not context.get_ca_certs():
        bundle = next((path for path in BUNDLES if Path(path).is_file()), None)
        if bundle is not None:
            context.load_verify_locations(cafile=bundle)


@contextmanager
def _file(path: str, pem: str) -> Generator[str]:
    """A file of that content: Python reads certificates of its own from files only. A secret stays in memory."""
    if path:
        yield path
        return
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, pem.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
