"""Browsers: preflights, origins, and the headers of every answer."""

from __future__ import annotations

import pytest

from .kit import PROTOBUF, export_request, serving

OPTIONS = {"cors_origins": ["https://*.example.com", "http://localhost"], "cors_max_age_s": 600}
ASK = {
    "Origin": "https://shop.example.com",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}


def granted(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control")}


def test_a_preflight_is_granted():
    with serving(options=OPTIONS) as at:
        code, headers, body = at.post(b"", ASK, method="OPTIONS")
        assert (code, body) == (204, b"")
        assert granted(headers) == {
            "access-control-allow-origin": "https://shop.example.com",
            "access-control-allow-credentials": "true",
            "access-control-allow-methods": "POST",
            "access-control-allow-headers": "content-type",
            "access-control-max-age": "600",
        }


@pytest.mark.parametrize(
    "other",
    [
        {"Origin": "https://example.org"},
        {"Origin": "https://.example.com.evil.org"},
        {"Access-Control-Request-Method": "DELETE"},
        {"Access-Control-Request-Headers": "x-secret"},
    ],
)
def test_a_preflight_for_anything_else_gets_no_permission(other):
    with serving(options=OPTIONS) as at:
        code, headers, _ = at.post(b"", ASK | other, method="OPTIONS")
        assert (code, granted(headers)) == (204, {})
        assert "Origin" in headers["vary"]


def test_answers_name_the_origin_and_exposed_headers_also_when_they_refuse():
    with serving(options=OPTIONS | {"cors_exposed": ["retry-after"]}) as at:
        for path, code in [("/v1/traces", 200), ("/nope", 404)]:
            got, headers, _ = at.post(export_request(), PROTOBUF | {"Origin": "http://localhost"}, path)
            assert got == code
            assert headers["access-control-allow-origin"] == "http://localhost"
            assert headers["access-control-expose-headers"] == "retry-after"


def test_named_headers_are_allowed():
    with serving(options=OPTIONS | {"cors_headers": ["X-Key"]}) as at:
        asked = ASK | {"Access-Control-Request-Headers": "x-key"}
        assert granted(at.post(b"", asked, method="OPTIONS")[1])


def test_without_cors_a_preflight_is_a_wrong_method():
    with serving(options={"response_headers": [("x-served-by", "colonnade")]}) as at:
        code, headers, _ = at.post(b"", ASK, method="OPTIONS")
        assert (code, headers["x-served-by"], granted(headers)) == (405, "colonnade", {})
