"""What a file may say of authenticators, and what is told where it says something else; passwords as they are kept."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from passlib.hash import apr_md5_crypt, ldap_salted_sha1, ldap_sha1, md5_crypt, sha256_crypt, sha512_crypt
from pydantic import ValidationError

from colonnade.daemon.configuration import ConfigError, load
from colonnade.extensions import basicauth, bearertokenauth, headers_setter
from colonnade.extensions.basicauth import REMEMBERED_MAX, BasicAuthServer, Htpasswd, is_whole, matches, parse
from colonnade.pipeline.authentication import Credentials
from colonnade.pipeline.component import ComponentId
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.settings import ClientAuth
from tests.daemon_process import otlp_config
from tests.pipeline.kit import FakeHost

from .test_receivers import BASIC, BEARER, basic

KEPT = {
    "bcrypt": lambda password: bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode(),
    "bcrypt of htpasswd": lambda password: KEPT["bcrypt"](password).replace("$2b$", "$2y$"),
    "apr1": apr_md5_crypt.hash,
    "md5": md5_crypt.hash,
    "sha": ldap_sha1.hash,
    "salted sha": ldap_salted_sha1.hash,
    "sha256": sha256_crypt.using(rounds=1000).hash,
    "sha512": sha512_crypt.using(rounds=1000).hash,
    "plain": str,
}


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("password", ["secret", "with spaces:and colons", "größer", "x" * 100])
def test_a_password_is_the_one_that_is_kept_and_no_other(kind: str, password: str) -> None:
    encoded = KEPT[kind](password)
    assert is_whole(encoded)
    assert matches(password, encoded)
    for other in ("", "Secret", encoded, f"a{password}", "a\0b", "y" * 20_000):
        assert not matches(other, encoded) or (kind == "plain" and other == encoded)


@pytest.mark.parametrize("encoded", ["$2y$05$cut", "$apr1$cut", "$6$rounds=x$y$z", "{SHA}%%", "{SSHA}YQ=="])
def test_a_damaged_entry_is_an_error_at_start_that_does_not_quote_it(encoded: str) -> None:
    server = BasicAuthServer(ComponentId("basicauth"), Htpasswd.model_validate({"inline": f"joe:{encoded}"}))
    with pytest.raises(ColonnadeError, match="the password of user 'joe' is cut or damaged") as told:
        asyncio.run(server.start(FakeHost("basicauth", kind="extension")))
    assert encoded not in told.value.message


async def test_inline_lines_win_over_those_of_the_file_and_a_line_without_colon_is_told(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    file.write_text("joe:one\n\nann:two\n")

    async def started(**section: str) -> BasicAuthServer:
        server = BasicAuthServer(ComponentId("basicauth"), Htpasswd.model_validate(section))
        await server.start(FakeHost("basicauth", kind="extension"))
        return server

    server = await started(file=str(file), inline="joe:three")
    logins = [("joe", "three"), ("joe", "one"), ("ann", "two")]
    assert [await server.admit(basic(*login)) for login in logins] == ["", "invalid credentials", ""]
    with pytest.raises(ColonnadeError, match=r"htpasswd.inline: line 2 has no colon: write user:password") as told:
        await started(inline="joe:one\nsecret-without-colon")
    assert "secret-without-colon" not in told.value.message
    with pytest.raises(ColonnadeError, match=r"htpasswd.file /not/there: No such file"):
        await started(file="/not/there")


async def test_a_right_password_is_compared_once_and_a_bound_number_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[str] = []
    monkeypatch.setattr(
        basicauth, "matches", lambda password, encoded: compared.append(password) or password == "right"
    )
    lines = "\n".join(f"user{number}:kept" for number in range(REMEMBERED_MAX + 1))
    server = BasicAuthServer(ComponentId("basicauth"), Htpasswd.model_validate({"inline": lines}))
    await server.start(FakeHost("basicauth", kind="extension"))
    for _ in range(3):
        assert await server.admit(basic("user0", "right")) == ""
        assert await server.admit(basic("user0", "wrong")) == "invalid credentials"
    assert compared == ["right", "wrong", "wrong", "wrong"]
    for number in range(1, REMEMBERED_MAX + 1):
        assert await server.admit(basic(f"user{number}", "right")) == ""
    assert len(server._right) == REMEMBERED_MAX
    compared.clear()
    assert await server.admit(basic("user0", "right")) == ""
    assert compared == ["right"]


async def test_a_flood_of_wrong_passwords_does_not_hold_up_who_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = threading.Event()
    monkeypatch.setattr(basicauth, "matches", lambda password, encoded: password == "right" or not wait.wait(30))
    server = BasicAuthServer(ComponentId("basicauth"), Htpasswd.model_validate({"inline": "joe:kept"}))
    await server.start(FakeHost("basicauth", kind="extension"))
    assert await server.admit(basic("joe", "right")) == ""
    flood = [asyncio.create_task(server.admit(basic("joe", f"wrong{number}"))) for number in range(100)]
    await asyncio.sleep(0)
    assert await server.admit(basic("joe", "right")) == ""
    assert not any(task.done() for task in flood)
    wait.set()
    assert set(await asyncio.gather(*flood)) == {"invalid credentials"}


@pytest.mark.parametrize(
    ("server", "secure", "warns"),
    [("gateway:4317", False, True), ("gateway:4317", True, False), ("127.0.0.1:4317", False, False)],
)
async def test_credentials_that_others_can_read_on_the_way_are_warned_of(
    server: str, secure: bool, warns: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeHost("otlp_grpc")
    extension = bearertokenauth.factory.create(
        ComponentId("bearertokenauth"), bearertokenauth.Config.model_validate({"token": "secret-1"})
    )
    monkeypatch.setattr(host, "extension", lambda id: extension)
    Credentials(ClientAuth(authenticator="bearertokenauth")).start(host, server, secure)
    assert ("credentials of bearertokenauth go to gateway:4317 without encryption" in caplog.text) == warns
    assert "secret-1" not in caplog.text


@given(st.text())
def test_no_header_breaks_the_parser(text: str) -> None:
    login, reason = parse(text)
    assert (login is None) == bool(reason)


SECTIONS: list[tuple[Any, Any, str]] = [
    (bearertokenauth, {}, "no bearer token provided: write token, tokens or filename"),
    (bearertokenauth, {"token": "a", "tokens": ["b"]}, "either tokens or token should be provided, not both"),
    (bearertokenauth, {"tokens": ["a", ""]}, "a token must not be empty"),
    (bearertokenauth, {"token": "a", "wait_for_token_file": True}, "require filename to be set"),
    (bearertokenauth, {"filename": "a", "wait_for_token_file": True}, "requires retry_on_failure to be enabled"),
    (bearertokenauth, {"token": "a", "header": "a b"}, "header"),
    (basicauth, {}, "no credential source provided"),
    (basicauth, {"htpasswd": {}}, "write htpasswd.file or htpasswd.inline"),
    (basicauth, {"htpasswd": {"inline": "a:b"}, "client_auth": {"username": "a"}}, "only one of `htpasswd` or"),
    (basicauth, {"client_auth": {"username": "a:b"}}, "a user's name has no colon"),
    (headers_setter, {"headers": []}, "at least 1 item"),
    (headers_setter, {"headers": [{"key": "a"}]}, "missing header source"),
    (headers_setter, {"headers": [{"key": "a", "value": "b", "from_context": "c"}]}, "invalid header source"),
    (headers_setter, {"headers": [{"key": "a", "value": "b", "default_value": "c"}]}, "default_value goes with"),
    (headers_setter, {"headers": [{"key": "a", "from_attribute": "b"}]}, "Extra inputs"),
]


@pytest.mark.parametrize(("module", "section", "said"), SECTIONS)
def test_a_wrong_section_says_what_is_wrong(module: Any, section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        module.factory.config.model_validate(section)


@pytest.mark.parametrize(
    ("extensions", "started", "named", "end", "said"),
    [
        (BEARER, ["bearertokenauth"], "bearer", "server", "authenticator not found"),
        (BEARER, [], "bearertokenauth", "server", "it is not started: add it to service::extensions"),
        ({"health_check": None}, ["health_check"], "health_check", "server", "is not a server authenticator"),
        (BASIC, ["basicauth"], "basicauth", "client", "requested extension is not a client authenticator"),
        (
            {"headers_setter": {"headers": [{"key": "a", "value": "b"}], "additional_auth": "gone"}, **BEARER},
            ["headers_setter", "bearertokenauth"],
            "headers_setter",
            "client",
            'extensions::headers_setter::additional_auth: failed to resolve authenticator "gone"',
        ),
    ],
)
def test_an_authenticator_that_can_not_be_used_is_told_at_the_key(
    extensions: dict[str, Any], started: list[str], named: str, end: str, said: str, tmp_path: Path
) -> None:
    auth = {"auth": {"authenticator": named}}
    if end == "server":
        config = otlp_config({"nop": None}, extensions=extensions, grpc=auth)
        where = "receivers::otlp::protocols::grpc::auth::authenticator"
    else:
        config = otlp_config({"otlp_grpc": {"endpoint": "localhost:1", **auth}}, extensions=extensions)
        where = "exporters::otlp_grpc::auth::authenticator"
    config["service"]["extensions"] = started
    file = tmp_path / "pipeline.yaml"
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError) as told:
        load([str(file)])
    (problem,) = told.value.problems
    assert said in problem.message
    assert where in problem.message or "additional_auth" in problem.message
    assert problem.place is not None
    assert problem.place.line


def test_secrets_are_not_in_what_is_printed_of_a_file() -> None:
    section = {"headers": [{"key": "a", "value": "secret-1"}, {"key": "b", "from_context": "c", "default_value": "s2"}]}
    for module, keys, secret in (
        (bearertokenauth, {"token": "secret-1"}, "secret-1"),
        (bearertokenauth, {"tokens": ["secret-1"]}, "secret-1"),
        (basicauth, {"htpasswd": {"inline": "joe:secret-1"}}, "secret-1"),
        (basicauth, {"client_auth": {"username": "joe", "password": "secret-1"}}, "secret-1"),
        (headers_setter, section, "secret-1"),
    ):
        config = module.factory.config.model_validate(keys)
        assert secret not in repr(config) + config.model_dump_json()
