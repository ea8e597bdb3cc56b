"""Keys that let events in: whose they are, what they may do, how much of it.

Keys stand in the configuration, or in a file that is read again when it changes. Until that file is loaded nobody knows
whether a key is good: senders are told to come again, because most of them drop what they are told is forbidden.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from colonnade.pipeline.bucket import Bucket
from colonnade.pipeline.component import Host
from colonnade.pipeline.settings import Duration, Settings
from colonnade.pipeline.values import Secret

RELOAD_S = 5.0
# Users whose buckets are kept; those not seen for longest begin anew with a full one.
USERS_MAX = 100_000


class RateLimit(Settings):
    """`rate_limit`: a bucket of requests."""

    requests_per_second: float = Field(gt=0, description="How fast the bucket fills.")
    burst: int = Field(default=0, ge=0, description="How many it holds; 0 = a second's worth.")


class Key(Settings):
    """One key."""

    key: Secret = Field(description="What senders name.")
    ns: str = Field(default="", description="Name space of what comes with it; empty: unify's default_ns.")
    scopes: tuple[str, ...] = Field(default=(), description="What it may send (names of routes); empty: everything.")
    enabled: bool = Field(default=True, description="Off: known, and refused.")
    rate_limit: RateLimit | None = Field(default=None, description="How many requests it may send.")
    user_rate_limit: RateLimit | None = Field(
        default=None, description="How many requests with events of one user (else anonymous id) it may send."
    )

    @field_validator("key")
    @classmethod
    def _not_empty(cls, key: Secret) -> Secret:
        if not key.reveal():
            raise ValueError("must not be empty")
        return key


# Who sends where no keys are asked for.
ANYBODY = Key.model_construct(key=Secret(""), ns="", scopes=(), enabled=True, rate_limit=None, user_rate_limit=None)


class KeySettings(Settings):
    """Where keys come from."""

    file: Path | None = Field(default=None, description="A YAML or JSON list of keys, read again when it changes.")
    reload_interval: Duration = Field(default=RELOAD_S, gt=0, description="How often the file is looked at.")


class KeyRegistry:
    """Finds keys. `loaded` is false until the file, if there is one, was read once."""

    def __init__(self, keys: Iterable[Key], settings: KeySettings) -> None:
        self._own = tuple(keys)
        self._settings = settings
        self._keys: dict[str, Key] = {key.key.reveal(): key for key in self._own}
        self._buckets: dict[str, Bucket] = {}
        self._users: OrderedDict[tuple[str, str], Bucket] = OrderedDict()
        self._stamp: Any = None
        self._task: asyncio.Task[None] | None = None
        self.loaded = settings.file is None

    @property
    def is_open(self) -> bool:
        """Without any key everybody may send."""
        return self._settings.file is None and not self._own

    async def start(self, host: Host) -> None:
        """Reads the file, and watches it; one that can not be read yet is told, and waited for."""
        if self._settings.file is not None:
            await self._look(host)
            self._task = asyncio.create_task(self._watch(host), name=f"{host.id} keys")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def find(self, text: str) -> Key | None:
        return self._keys.get(text)

    def wait_s(self, key: Key) -> float:
        """Takes a token of the key's bucket; else how many seconds until there is one."""
        if key.rate_limit is None:
            return 0.0
        limit = key.rate_limit
        bucket = self._buckets.setdefault(key.key.reveal(), Bucket(limit.requests_per_second, limit.burst))
        return bucket.take()

    def user_wait_s(self, key: Key, users: Iterable[str]) -> float:
        """Takes a token of each user's bucket, or of none: else how many seconds until all have one."""
        limit = key.user_rate_limit
        if limit is None:
            return 0.0
        buckets = [self._user(key, user, limit) for user in users]
        wait_s = max((bucket.wait_s() for bucket in buckets), default=0.0)
        for bucket in buckets if not wait_s else ():
            bucket.take()
        return wait_s

    def _user(self, key: Key, user: str, limit: RateLimit) -> Bucket:
        name = (key.key.reveal(), user)
        bucket = self._users.setdefault(name, Bucket(limit.requests_per_second, limit.burst))
        self._users.move_to_end(name)
        if len(self._users) > USERS_MAX:
            self._users.popitem(last=False)
        return bucket

    async def _watch(self, host: Host) -> None:
        while True:
            await asyncio.sleep(self._settings.reload_interval)
            await self._look(host)

    async def _look(self, host: Host) -> None:
        path = self._settings.file
        assert path is not None
        try:
            stamp, keys = await host.run(_read, path, self._stamp)
        except (OSError, ValueError) as error:
            text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            if text != self._stamp:
                self._stamp = text
                host.logger.warning("%s: keys of %s can not be read, the old ones stay: %s", host.id, path, text)
            return
        if keys is not None:
            self._stamp, self.loaded = stamp, True
            self._keys = {key.key.reveal(): key for key in (*self._own, *keys)}
            self._buckets = {text: bucket for text, bucket in self._buckets.items() if text in self._keys}
            self._users.clear()
            host.logger.info("%s: %d keys of %s", host.id, len(keys), path)


def _read(path: Path, known: Any) -> tuple[Any, list[Key] | None]:
    """The file's keys, and what tells that it is the same; None for keys that are known. Raises OSError, ValueError."""
    state = path.stat()
    stamp = (state.st_ino, state.st_mtime_ns, state.st_size)
    if stamp == known:
        return stamp, None
    try:
        return stamp, TypeAdapter(list[Key]).validate_python(yaml.safe_load(path.read_text("utf-8")) or [])
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from None
    except ValidationError as error:
        # Values are secrets: only places and reasons are told.
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ValueError(told) from None
