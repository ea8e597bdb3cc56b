"""Addresses of clients, made anonymous wherever a row has them."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import pyarrow

from colonnade.native import AttributeEdit, Batch, exchange_in_context
from colonnade.processors.enrich.rows import Terms

pa: Any = pyarrow

Anonymize = Literal["keep", "truncate", "hash", "drop"]
IPV4_KEPT_BITS = 24
IPV6_KEPT_BITS = 48
HASH_BYTES = 16
SALT_BYTES = 32
CACHED = 100_000
CONTEXT = "context."
EXTENSION = "client_ip"


class Anonymizer:
    """Exchanges addresses.

    Args:
        mode: truncate keeps the network (/24, /48), hash says only whether two are the same, drop takes them out.
        rotation_s: how long a salt is used; it is random, and never leaves the process.
    """

    def __init__(self, mode: Anonymize, rotation_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.mode = mode
        self._rotation_s, self._clock = rotation_s, clock
        self._lock = threading.Lock()
        self._salt, self._since_s = secrets.token_bytes(SALT_BYTES), clock()
        self._exchanged = lru_cache(CACHED)(self._exchange)

    def exchanged(self, address: str) -> str | None:
        """What stands for an address; None for nothing. What is no address goes."""
        if self.mode == "hash":
            self._rotate()
        return self._exchanged(address)

    def apply(self, batch: Batch, places: tuple[str, ...], found: list[Terms]) -> Batch:
        """Exchanges addresses at every place; `found` has what is there."""
        keys: list[tuple[str, dict[str, str | None]]] = []
        for place, terms in zip(places, found, strict=True):
            by = {text: self.exchanged(text) for text in terms.texts if text}
            if not by:
                continue
            if place.startswith(CONTEXT):
                batch = exchange_in_context(batch, place.removeprefix(CONTEXT), by)
            else:
                keys.append((place, by))
        if keys:
            actions: list[dict[str, Any]] = [{"action": "exchange", "key": key, "by": by} for key, by in keys]
            batch = AttributeEdit("record", actions).apply(batch)
        return self._extension(batch) if EXTENSION in batch.column_names else batch

    def _extension(self, batch: Batch) -> Batch:
        """The column that `unify: extension_columns` made of them."""
        table = pa.record_batch(batch)
        at = table.schema.get_field_index(EXTENSION)
        encoded = table.column(at).dictionary_encode()
        values = [self.exchanged(text) or "" if text else "" for text in encoded.dictionary.to_pylist()]
        column = pa.array(values, pa.utf8()).take(encoded.indices)
        return Batch.from_arrow(table.set_column(at, table.schema.field(at), column), batch.signal, like=batch)

    def _rotate(self) -> None:
        with self._lock:
            if self._clock() - self._since_s >= self._rotation_s:
                self._salt, self._since_s = secrets.token_bytes(SALT_BYTES), self._clock()
                self._exchanged.cache_clear()

    def _exchange(self, text: str) -> str | None:
        try:
            address = ipaddress.ip_address(text.strip())
        except ValueError:
            return None
        match self.mode:
            case "hash":
                return hashlib.blake2b(address.packed, key=self._salt, digest_size=HASH_BYTES).hexdigest()
            case "truncate":
                mapped = getattr(address, "ipv4_mapped", None)
                address = mapped or address
                bits = IPV4_KEPT_BITS if address.version == 4 else IPV6_KEPT_BITS
                return str(ipaddress.ip_network((address, bits), strict=False).network_address)
            case _:
                return None
