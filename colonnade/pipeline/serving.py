"""Server settings as the listener wants them: plain values."""

from __future__ import annotations

from typing import Any

from colonnade import native
from colonnade.pipeline.component import ServerSpec
from colonnade.pipeline.settings import GRPCServer, HTTPServer, TLSServer


def server_arguments(spec: ServerSpec) -> dict[str, Any]:
    """Keyword arguments of `Listener.serve`: what is fixed while the port is bound."""
    return {"protocols": spec.protocols, "tls": tls_arguments(spec)}


def tls_arguments(spec: ServerSpec) -> dict[str, Any] | None:
    """TLS of an endpoint; None = plain text."""
    tls = spec.settings.tls
    return None if tls is None else _tls(tls)


def _tls(tls: TLSServer) -> dict[str, Any]:
    return {
        "cert_file": tls.cert_file,
        "cert_pem": tls.cert_pem.reveal(),
        "key_file": tls.key_file,
        "key_pem": tls.key_pem.reveal(),
        "client_ca_file": tls.client_ca_file,
        "client_ca_file_reload": tls.client_ca_file_reload,
        "reload_interval_s": tls.reload_interval,
        "min_version": tls.min_version,
        "max_version": tls.max_version,
        "cipher_suites": list(tls.cipher_suites),
        "curve_preferences": list(tls.curve_preferences),
    }


def server_options(spec: ServerSpec) -> native.ServerOptions:
    """What may change while the port stays bound."""
    settings = spec.settings
    return native.ServerOptions(**(_http(settings) if isinstance(settings, HTTPServer) else _grpc(settings)))


def _http(settings: HTTPServer) -> dict[str, Any]:
    cors = settings.cors
    return {
        "response_headers": [(name, value.reveal()) for name, value in settings.response_headers.items()],
        "compression": [name or "identity" for name in settings.compression_algorithms],
        "read_header_timeout_s": settings.read_header_timeout,
        "read_timeout_s": settings.read_timeout,
        "write_timeout_s": settings.write_timeout,
        "idle_timeout_s": settings.idle_timeout,
        "keep_alive": settings.keep_alives_enabled,
        "cors_origins": list(cors.allowed_origins) if cors else [],
        "cors_headers": list(cors.allowed_headers) if cors else [],
        "cors_exposed": list(cors.exposed_headers) if cors else [],
        "cors_max_age_s": cors.max_age if cors else 0,
    }


def _grpc(settings: GRPCServer) -> dict[str, Any]:
    parameters = settings.keepalive.server_parameters if settings.keepalive else None
    return {
        "max_concurrent_streams": settings.max_concurrent_streams or 1000,
        "ping_interval_s": (parameters.time if parameters else 0) or 7200.0,
        "ping_timeout_s": (parameters.timeout if parameters else 0) or 20.0,
        "idle_timeout_s": parameters.max_connection_idle if parameters else 0.0,
        "max_age_s": parameters.max_connection_age if parameters else 0.0,
        "max_age_grace_s": parameters.max_connection_age_grace if parameters else 0.0,
    }
