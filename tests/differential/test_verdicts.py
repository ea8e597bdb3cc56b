"""Malformed bytes have the verdict that the official package gives them, and leave nothing behind."""

from __future__ import annotations

import pyarrow as pa
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from colonnade.native import Batch, NativeError, decode, validate

from .kit import assert_says, rows_of
from .messages import REQUESTS, FromHypothesis, FromSeed, Maker, Source, seeded

SIGNALS = pytest.mark.parametrize("signal", REQUESTS)


def changed(source: Source, body: bytes) -> bytes:
    """Bytes with a few changes: flipped, put in, taken out, doubled, cut off."""
    odd = [0x00, 0x01, 0x7F, 0x80, 0xFF, 0x0A, 0x0B, 0x0C, 0x12, 0x1A, 0xC0]
    for _ in range(source.below(4)):
        at = source.below(len(body) + 1)
        length = source.below(12)
        match source.below(6):
            case 0:
                body = body[:at] + bytes([source.below(256)]) + body[at + 1 :]
            case 1:
                body = body[:at] + bytes([odd[source.below(len(odd))]]) + body[at:]
            case 2:
                body = body[:at] + body[at + length :]
            case 3:
                body = body[:at] + body[at : at + length] + body[at:]
            case 4:
                body = body[:at]
            case _:
                body = body[:at] + source.binary(8) + body[at:]
    return body


def official(signal: str, body: bytes) -> Message | None:
    try:
        return REQUESTS[signal].FromString(body)
    except DecodeError:
        return None


def assert_same_verdict(signal: str, body: bytes) -> bool:
    """True where both read the bytes, and then to the same meaning."""
    expected = official(signal, body)
    batch, refused = decode(signal, [body])
    pa.record_batch(batch).validate(full=True)
    assert (expected is None) == bool(refused), (signal, body, refused)
    if expected is not None:
        assert validate(signal, body) == batch.rows
        assert_says(signal, batch, [expected])
        return True
    [(index, message, offset, path)] = refused
    with pytest.raises(NativeError) as caught:
        validate(signal, body)
    assert (index, caught.value.code, caught.value.offset, caught.value.path) == (0, "malformed", offset, path)
    assert message
    assert 0 <= offset <= len(body)
    return False


@SIGNALS
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_changed_bytes_have_the_official_verdict(signal: str, data: st.DataObject) -> None:
    source = FromHypothesis(data.draw)
    assert_same_verdict(signal, changed(source, Maker(source).request(signal).SerializeToString()))


@SIGNALS
def test_changed_bytes_have_the_official_verdict_at_length(signal: str) -> None:
    read = [
        assert_same_verdict(signal, changed(FromSeed(seed), seeded(signal, seed % 500).SerializeToString()))
        for seed in range(2500)
    ]
    # A test of refusals that are none, or of nothing else, would hold nothing.
    assert 0.2 < sum(read) / len(read) < 0.9


@SIGNALS
@given(body=st.binary(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_bytes_have_the_official_verdict(signal: str, body: bytes) -> None:
    assert_same_verdict(signal, body)


def said(batch: Batch) -> list[str]:
    """What each row says, whatever columns the others make present."""
    absent = {"id": bytes(16), "$occurrence": 0}
    return [
        repr({name: cell for name, cell in row.items() if cell not in (None, "", [], absent.get(name))})
        for row in rows_of(batch)
    ]


@SIGNALS
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_refused_payloads_leave_no_trace_in_others(signal: str, data: st.DataObject) -> None:
    bodies: list[bytes] = []
    for _ in range(data.draw(st.integers(0, 8))):
        source = FromSeed(data.draw(st.integers(0, 10_000)))
        bodies.append(changed(source, Maker(source).request(signal).SerializeToString()))
    assert_refused_alone(signal, bodies)


@SIGNALS
def test_refused_payloads_leave_no_trace_in_others_at_length(signal: str) -> None:
    for seed in range(40):
        source = FromSeed(seed)
        assert_refused_alone(
            signal, [changed(source, Maker(source).request(signal).SerializeToString()) for _ in range(50)]
        )


def assert_refused_alone(signal: str, bodies: list[bytes]) -> None:
    good = [body for body in bodies if official(signal, body) is not None]
    batch, refused = decode(signal, bodies)
    assert [index for index, *_ in refused] == [at for at, body in enumerate(bodies) if body not in good]
    alone, none = decode(signal, good)
    assert none == []
    # The same bytes in every buffer, as though nobody had sent the others.
    assert pa.record_batch(batch).serialize().equals(pa.record_batch(alone).serialize())
    assert batch.runs == alone.runs
    assert said(batch) == [row for body in good for row in said(decode(signal, [body])[0])]
