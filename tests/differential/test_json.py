"""OTLP/JSON against the official messages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colonnade.native import NativeError, json_to_protobuf

from .canonical import canonical, difference
from .messages import REQUESTS, FromSeed, Maker, requests, seeded
from .otlp_json import Speller


def check(signal: str, message: object, seed: int) -> None:
    text = Speller(Maker(FromSeed(seed))).text(message)
    parsed = REQUESTS[signal].FromString(json_to_protobuf(signal, text))
    assert not difference(canonical(message), canonical(parsed)), text
    # Whatever canonicalisation forgives, a text loses nothing at all (NaN has one bit pattern in it).
    if b"NaN" not in text:
        assert parsed == message, text


@pytest.mark.parametrize("signal", REQUESTS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_json_says_what_protobuf_says(signal: str, data: st.DataObject) -> None:
    check(signal, data.draw(requests(signal)), data.draw(st.integers(0, 1000)))


@pytest.mark.parametrize("signal", REQUESTS)
def test_json_says_what_protobuf_says_at_length(signal: str) -> None:
    for seed in range(400):
        check(signal, seeded(signal, seed), seed)


@pytest.mark.parametrize("signal", REQUESTS)
def test_json_written_in_field_order_is_the_official_serialisation(signal: str) -> None:
    class Plain(Maker):
        def chance(self, one_in: int) -> bool:
            return False

    for seed in range(100):
        message = seeded(signal, seed)
        text = Speller(Plain(FromSeed(seed))).text(message)
        if b"NaN" not in text:
            official = REQUESTS[signal].FromString(message.SerializeToString())
            assert REQUESTS[signal].FromString(json_to_protobuf(signal, text)) == official


@pytest.mark.parametrize("signal", REQUESTS)
def test_changed_text_is_refused_or_read_but_never_worse(signal: str) -> None:
    for seed in range(300):
        source = FromSeed(seed)
        text = bytearray(Speller(Maker(source)).text(seeded(signal, seed)))
        for _ in range(1 + source.below(3)):
            text[source.below(len(text))] = source.below(256)
        refusal = None
        try:
            REQUESTS[signal].FromString(json_to_protobuf(signal, bytes(text)))
        except NativeError as error:
            refusal = error
        if refusal is not None:
            assert refusal.code == "malformed"
            assert refusal.offset is not None
            assert 0 <= refusal.offset <= len(text)
