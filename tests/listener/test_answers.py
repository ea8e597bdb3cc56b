"""What clients see on the wire, and what is counted."""

from __future__ import annotations

import gzip
import http.client
import json
import zlib

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from colonnade import native

from .kit import GRPC, JSON, MAX_BODY_BYTES, METHOD, PROTOBUF, TRACES, Serving, export_request, serving

BUSY = native.Answer(http_status=503, grpc_code=14, message="log is full", retry_after_s=1.5)


def stub(at: Serving):
    channel = grpc.insecure_channel(f"127.0.0.1:{at.port}")
    return channel, channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)


def status(body: bytes) -> status_pb2.Status:
    return status_pb2.Status.FromString(body)


def still_served(at: Serving) -> bool:
    return at.post(export_request())[0] == 200


def test_protobuf_json_and_grpc_are_accepted():
    with serving() as at:
        assert at.post(export_request())[::2] == (200, b"")
        code, headers, body = at.post(b'{"resourceSpans":[]}', {"Content-Type": "application/json; charset=utf-8"})
        assert (code, headers["content-type"], json.loads(body)) == (200, "application/json", {})
        channel, export = stub(at)
        with channel:
            assert export(export_request(), timeout=10) == b""
        requests = at.listener.stats()["requests"]
        assert requests == {(TRACES, "http 200"): 2, (GRPC, "grpc 0"): 1}
        assert at.count("queue_bytes") == 0


@pytest.mark.parametrize(
    ("coding", "pack"), [("gzip", gzip.compress), ("zlib", zlib.compress), ("deflate", zlib.compress), ("", bytes)]
)
def test_content_codings_are_undone(coding, pack):
    seen = []

    def keep(group):
        seen.extend(group.payloads())
        group.answer(native.Answer(http_status=200, grpc_code=0))

    with serving(keep) as at:
        assert at.post(pack(export_request()), PROTOBUF | {"Content-Encoding": coding})[0] == 200
    assert [body for _, _, body in seen] == [export_request()]


@pytest.mark.parametrize(
    ("path", "method", "headers", "body", "code", "text", "counter"),
    [
        ("/nope", "POST", PROTOBUF, b"", 404, b"404 page not found\n", "not_found"),
        ("/v1/traces", "GET", {}, b"", 405, b"405 method not allowed, supported: [POST]", "method_not_allowed"),
        (
            "/v1/traces",
            "POST",
            {"Content-Type": "text/xml"},
            b"x",
            415,
            b"415 unsupported media type, supported: [application/json, application/x-protobuf]",
            "unsupported_media_type",
        ),
    ],
)
def test_what_is_not_otlp_is_refused_in_plain_text(path, method, headers, body, code, text, counter):
    with serving() as at:
        got, answer_headers, answer = at.post(body, headers, path, method)
        assert (got, answer, answer_headers["content-type"]) == (code, text, "text/plain")
        assert at.count(counter) == 1
        if code == 405:
            assert answer_headers["allow"] == "POST"
        assert still_served(at)


@pytest.mark.parametrize(
    ("headers", "body", "message", "counter"),
    [
        ({"Content-Encoding": "br"}, b"x", "unsupported Content-Encoding: br", "bad_encoding"),
        ({"Content-Encoding": "gzip"}, b"not gzip", "failed to decompress the body", "bad_encoding"),
        ({}, b"x" * (MAX_BODY_BYTES + 1), "http: request body too large", "too_large"),
        (
            {"Content-Encoding": "gzip"},
            gzip.compress(b"\0" * (MAX_BODY_BYTES * 100)),
            "http: request body too large",
            "too_large",
        ),
    ],
)
def test_bad_bodies_are_told_why_in_the_requests_encoding(headers, body, message, counter):
    with serving() as at:
        code, answer_headers, answer = at.post(body, PROTOBUF | headers)
        assert (code, answer_headers["content-type"]) == (400, "application/x-protobuf")
        assert status(answer).code == 3
        assert status(answer).message.startswith(message)
        code, answer_headers, answer = at.post(body, JSON | headers)
        assert (code, answer_headers["content-type"]) == (400, "application/json")
        assert json.loads(answer)["message"].startswith(message)
        assert at.count(counter) == 2
        assert still_served(at)


def test_malformed_json_is_refused_alone():
    with serving() as at:
        code, _, answer = at.post(b'{"resourceSpans": [', JSON)
        assert code == 400
        assert json.loads(answer)["code"] == 3
        assert at.count("malformed") == 1
        assert still_served(at)


def test_a_retryable_refusal_says_when_to_come_back():
    with serving(lambda group: group.answer(BUSY)) as at:
        code, headers, body = at.post(export_request())
        assert (code, headers["retry-after"]) == (503, "2")
        info = error_details_pb2.RetryInfo()
        assert status(body).details[0].Unpack(info)
        assert (info.retry_delay.seconds, info.retry_delay.nanos) == (1, 500_000_000)
        assert json.loads(at.post(b"{}", JSON)[2])["details"][0]["retryDelay"] == "1.500000000s"
        channel, export = stub(at)
        with channel, pytest.raises(grpc.RpcError) as refused:
            export(export_request(), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert refused.value.details() == "log is full"
        details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
        assert status(details).details[0].Unpack(info)


def test_rejected_rows_are_told_as_partial_success():
    partial = native.Answer(http_status=200, grpc_code=0, message="too old", rejected=3)
    with serving(lambda group: group.answer(partial)) as at:
        answer = ExportTraceServiceResponse.FromString(at.post(export_request())[2])
        assert (answer.partial_success.rejected_spans, answer.partial_success.error_message) == (3, "too old")
        body = json.loads(at.post(b"{}", JSON)[2])
        assert body == {"partialSuccess": {"rejectedSpans": "3", "errorMessage": "too old"}}
        channel, export = stub(at)
        with channel:
            answer = ExportTraceServiceResponse.FromString(export(export_request(), timeout=10))
        assert answer.partial_success.rejected_spans == 3


def test_one_request_of_a_group_may_be_answered_otherwise():
    no = native.Answer(http_status=400, grpc_code=3, message="no")
    ok = native.Answer(http_status=200, grpc_code=0)
    with serving(lambda group: group.answer(ok, [(0, no)])) as at:
        assert at.post(export_request())[0] == 400


def test_a_group_let_go_is_answered_as_unavailable():
    with serving(lambda group: None) as at:
        code, headers, body = at.post(export_request())
        assert (code, headers["retry-after"], status(body).code) == (503, "1", 14)
        assert at.count("unanswered") == 1


def test_a_python_route_sees_the_request_and_answers_it():
    with serving() as at:
        assert at.post(b"", {}, "/settings?a=1", "GET")[::2] == (200, b"/settings?a=1")
        code, _, body = at.post(b"x" * 1001, {}, "/settings", "GET")
        assert (code, body) == (413, b"request body too large\n")


@pytest.mark.parametrize(
    ("method", "code", "details"),
    [
        ("/a.B/C", grpc.StatusCode.UNIMPLEMENTED, "unknown service a.B"),
        (
            METHOD + "2",
            grpc.StatusCode.UNIMPLEMENTED,
            "unknown method Export2 for service opentelemetry.proto.collector.trace.v1.TraceService",
        ),
    ],
)
def test_unknown_grpc_methods_are_unimplemented(method, code, details):
    with serving() as at, grpc.insecure_channel(f"127.0.0.1:{at.port}") as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(method)(b"", timeout=10)
        assert (refused.value.code(), refused.value.details()) == (code, details)
        assert at.count("not_found") == 1


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_too_large_grpc_messages_are_refused_as_grpc_go_does(compression):
    with serving() as at:
        channel, export = stub(at)
        with channel:
            with pytest.raises(grpc.RpcError) as refused:
                export(b"\0" * (MAX_BODY_BYTES + 1), timeout=10, compression=compression)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "larger than max" in refused.value.details()
            assert at.count("too_large") == 1
            assert export(export_request(), timeout=10, compression=compression) == b""


def test_a_grpc_port_serves_http2_only():
    with serving(protocols=("h2",)) as at:
        with pytest.raises((http.client.HTTPException, OSError)):
            at.post(export_request())
        at.await_count("protocol_errors", 1)
        channel, export = stub(at)
        with channel:
            assert export(export_request(), timeout=10) == b""
