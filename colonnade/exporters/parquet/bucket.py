"""An archive in a bucket of S3, or of a store that speaks as S3 does.

A file is created under its key: at once, whole, and only where the key has nothing yet (`If-None-Match: *`). A small
one is one request; a large one is uploaded in parts under a hidden key, and from there created under its own by the
store. A key that has something was published by a run that ended before it could say so: the range of rows that names
it has been written down before, so that it holds the same rows. That is checked, by the file's footer.

Hidden keys begin with the id of the spool that they are uploaded from, so that what a crash has left is known by it.
Uploads that were never completed are not visible as keys: a rule of the bucket removes them.
"""

from __future__ import annotations

import configparser
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from colonnade.exporters.parquet.config import ParquetConfig
from colonnade.exporters.parquet.folders import SPOOL, SUFFIX, SpooledFile, Unwritable
from colonnade.pipeline import faults
from colonnade.pipeline.errors import ColonnadeError, Retryable

# pyarrow has no types; `Any` says so once.
pa: Any = pyarrow
pq: Any = pyarrow.parquet

# A file up to this size is one request, and in memory while it is sent; of a larger one, so many parts are.
WHOLE_MAX_BYTES = 32 << 20
PART_BYTES = 16 << 20
PARTS_AT_ONCE = 4
CONNECT_WITHIN_S = 5.0
# Of one request: a part over a slow line.
ANSWERED_WITHIN_S = 60.0
# Within one attempt, so that one part of many that fails does not mean to send all again. The sender does the rest.
REQUEST_REPEATS = 2
REQUEST_REPEATED_WITHIN_S = 10.0
LASTING_DELAY_S = 10.0
PROFILE_AGE_S = 300.0

# What tells two files of one name apart: when their rows came in, to the nanosecond.
IDENTITY_COLUMNS = ("ingested_at", "timestamp")


class Trouble(NamedTuple):
    """What an answer of the store means.

    Attributes:
        code: the error's.
        advice: what is wrong, and what to do.
        lasting: whether somebody has to mend something; a start is refused then.
    """

    code: str
    advice: str
    lasting: bool = True


_CREDENTIALS = Trouble(
    "bad_credentials", "the store refuses the credentials: correct access_key_id and secret_access_key"
)
_EXPIRED = Trouble("bad_credentials", "the session of the credentials has ended: renew them")
_DENIED = Trouble(
    "not_allowed",
    "access is denied: allow s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and "
    "s3:AbortMultipartUpload on its objects",
)
_REGION = Trouble("wrong_region", "the bucket is in another region: set region")
_CLOCK = Trouble("wrong_clock", "the clock of this machine is wrong: set it")
_NAME = Trouble("no_bucket", "the store takes no bucket of that name: correct path")
_BUSY = Trouble("store_busy", "the store is busy", lasting=False)
_UNREACHABLE = Trouble("store_unreachable", "the store can not be reached, or does not answer", lasting=False)
_NO_CREDENTIALS = Trouble(
    "no_credentials",
    "there are no credentials: set access_key_id and secret_access_key, or the environment's AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials, or give this machine a role",
)
_NOT_OFFERED = Trouble(
    "not_offered", "the store does not do what is asked: it must know If-None-Match: *, uploads in parts, and copies"
)
_REFUSED = Trouble("store_refused", "the store refuses the request", lasting=False)

# By the code that stands in S3's answer, and else by its status.
TROUBLES: dict[str, Trouble] = {
    "NoSuchBucket": Trouble("no_bucket", "there is no such bucket: make it, or correct path"),
    "InvalidBucketName": _NAME,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "ExpiredToken": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "AuthorizationHeaderMalformed": _REGION,
    "PermanentRedirect": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "RequestTimeTooSkewed": _CLOCK,
    "NotImplemented": _NOT_OFFERED,
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "InternalError": _BUSY,
    "OperationAborted": _BUSY,
    "301": _REGION,
    "401": _CREDENTIALS,
    "403": _DENIED,
    "429": _BUSY,
    "500": _BUSY,
    "501": _NOT_OFFERED,
    "502": _BUSY,
    "503": _BUSY,
    "504": _BUSY,
}

_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
# Where a machine's role is asked for, once there is nothing else to ask.
_ROLES = re.compile(r"/latest/(api/token|meta-data)|/v2/credentials|Instance metadata", re.IGNORECASE)


class BucketError(Retryable):
    """The store did not do it. `lasting`: somebody has to mend something first."""

    def __init__(self, trouble: Trouble, where: str, said: str = "") -> None:
        delay_s = LASTING_DELAY_S if trouble.lasting else None
        super().__init__(trouble.code, f"{where}: {trouble.advice}" + (f" ({said})" if said else ""), delay_s)
        self.lasting = trouble.lasting


class Bucket:
    """Below `path` of a bucket. Methods block; they raise BucketError."""

    def __init__(self, config: ParquetConfig, owner: str, alone: bool) -> None:
        """`owner`: of the spool; `alone`: whether nobody else can be uploading from it."""
        self._alone = alone
        self._opened = False
        self._where = config.path + (f" at {config.endpoint}" if config.endpoint else "")
        self._hidden = f"{SPOOL}/{owner}"
        try:
            import obstore  # an extra, loaded only where it is used
            from obstore import store
        except ImportError as error:
            raise ColonnadeError(
                "missing_package",
                f"{self._where}: an archive in a bucket needs the package obstore ({error}): "
                "pip install 'colonnade[s3]'",
            ) from None
        # It would log every failed attempt by itself, and so does the sender.
        logging.getLogger("obstore").setLevel(logging.CRITICAL)
        self._api: Any = obstore
        self._store = _store(store, config)

    def open(self) -> int:
        """Asks whether the bucket can be used, and removes what a crash has left there; gives how many files."""
        with self._told("the bucket can not be used"):
            left = [found["path"] for chunk in self._api.list(self._store, self._hidden) for found in chunk]
            if left and self._alone:
                self._api.delete(self._store, left)
        self._opened = True
        return len(left) if self._alone else 0

    def publish(self, file: SpooledFile, key: str) -> None:
        """See `Target`. Raises BucketError; Unwritable where the key has other rows, or the spooled file is gone."""
        if not file.path.exists():
            raise file.gone()
        if not self._opened:
            self.open()
        with self._told(f"{key} can not be written"):
            try:
                self._create(file, key)
            except self._api.exceptions.AlreadyExistsError:
                self._compare(file, key)
        file.remove()

    def _create(self, file: SpooledFile, key: str) -> None:
        if file.nbytes <= WHOLE_MAX_BYTES:
            self._api.put(self._store, key, file.path, mode="create")
            return
        hidden = f"{self._hidden}/{key}{SUFFIX}"
        self._api.put(
            self._store,
            hidden,
            file.path,
            use_multipart=True,
            chunk_size=PART_BYTES,
            max_concurrency=PARTS_AT_ONCE,
        )
        faults.reached("upload")
        try:
            self._api.copy(self._store, hidden, key, overwrite=False)
        finally:
            # What is left here is removed at the next start.
            with suppress(self._api.exceptions.BaseError):
                self._api.delete(self._store, hidden)

    def _compare(self, file: SpooledFile, key: str) -> None:
        """Whether what the key has is what would have been written."""
        try:
            there = _identity(pq.read_metadata(pa.BufferReader(self._tail(key))))
        except pa.ArrowException:
            there = None
        if there != _identity(pq.read_metadata(file.path)):
            raise Unwritable(
                "name_taken",
                f"{self._where}: {key} has rows of somebody else: give each daemon a data folder of its own, "
                "which is no copy of another's",
            )

    def _tail(self, key: str) -> bytes:
        """The footer of a file; less than that of what is none."""
        size = self._api.head(self._store, key)["size"]
        if size < 8:
            return b""
        length = int.from_bytes(bytes(self._api.get_range(self._store, key, start=size - 8, end=size))[:4], "little")
        if length > size - 8:
            return b""
        return bytes(self._api.get_range(self._store, key, start=size - 8 - length, end=size))

    def _told(self, what: str) -> _Telling:
        return _Telling(self._api.exceptions.BaseError, f"{self._where}: {what}")


class _Telling:
    """Says what an error of the store means. Its own text may quote what was signed, and is not passed on."""

    def __init__(self, error: type[Exception], where: str) -> None:
        self._error = error
        self._where = where

    def __enter__(self) -> None: ...

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, self._error | OSError) and not isinstance(error, ColonnadeError):
            trouble, said = meaning(str(error))
            raise BucketError(trouble, self._where, said) from None


def meaning(text: str) -> tuple[Trouble, str]:
    """What an error's text means, and the part of it that can be shown."""
    if _ROLES.search(text):
        return _NO_CREDENTIALS, ""
    code, status = _CODE.search(text), _STATUS.search(text)
    said = [found[1] for found in (code, status) if found]
    if not said:
        return _UNREACHABLE, ""
    return next((TROUBLES[name] for name in said if name in TROUBLES), _REFUSED), said[0]


def _identity(footer: Any) -> list[Any]:
    """Rows, and the ranges of the columns that tell files apart; None for a column that has no range."""
    found: list[Any] = [footer.num_rows]
    for name in IDENTITY_COLUMNS:
        ranges = [_range(footer.row_group(group), name) for group in range(footer.num_row_groups)]
        known = [one for one in ranges if one is not None]
        found.append((min(low for low, _ in known), max(high for _, high in known)) if known else None)
    return found


def _range(group: Any, name: str) -> tuple[int, int] | None:
    columns = (group.column(number) for number in range(group.num_columns))
    found = next((column.statistics for column in columns if column.path_in_schema == name), None)
    return (found.min_raw, found.max_raw) if found is not None and found.has_min_max else None


def _store(module: Any, config: ParquetConfig) -> Any:
    """The client. What the section does not say, the environment does."""
    bucket, prefix = config.bucket
    given = {name: value for name in ("endpoint", "region") if (value := getattr(config, name))}
    plain = {"allow_http": True} if config.endpoint.startswith("http://") else {}
    return module.S3Store(
        bucket,
        prefix=prefix or None,
        **given,
        virtual_hosted_style_request=False,
        copy_if_not_exists="multipart",
        conditional_put="etag",
        credential_provider=_credentials(config),
        client_options={
            **plain,
            "connect_timeout": timedelta(seconds=CONNECT_WITHIN_S),
            "timeout": timedelta(seconds=ANSWERED_WITHIN_S),
        },
        retry_config={
            "max_retries": REQUEST_REPEATS,
            "retry_timeout": timedelta(seconds=REQUEST_REPEATED_WITHIN_S),
        },
    )


def _credentials(config: ParquetConfig) -> Callable[[], dict[str, Any]] | None:
    """What gives the keys to sign with; None: what obstore finds in the environment, or a role of the machine."""
    if config.access_key_id:
        keys = (config.access_key_id.reveal(), config.secret_access_key.reveal())
        return lambda: {"access_key_id": keys[0], "secret_access_key": keys[1], "token": None, "expires_at": None}
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") or not _profile():
        return None
    return lambda: _profile() | {"expires_at": datetime.now(UTC) + timedelta(seconds=PROFILE_AGE_S)}


def _profile() -> dict[str, Any]:
    """Keys of the shared credentials file; empty without."""
    file = configparser.RawConfigParser()
    with suppress(OSError, configparser.Error, UnicodeDecodeError):
        file.read(Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser())
    name = os.environ.get("AWS_PROFILE") or "default"
    if not file.has_option(name, "aws_access_key_id") or not file.has_option(name, "aws_secret_access_key"):
        return {}
    return {
        "access_key_id": file.get(name, "aws_access_key_id"),
        "secret_access_key": file.get(name, "aws_secret_access_key"),
        "token": file.get(name, "aws_session_token", fallback=None),
    }
