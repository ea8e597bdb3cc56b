"""Places of addresses, local time, own tables, and addresses made anonymous."""

from __future__ import annotations

import gzip
import ipaddress
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from colonnade.pipeline.errors import ColonnadeError
from colonnade.processors.enrich import Config
from colonnade.processors.enrich.address import Anonymizer
from tests.pipeline.kit import FakeHost, until
from tests.processors.enrich.kit import BERLIN, completed, enriched, geo_file, rows_of, running

PLACE = {
    "geo_country": "DE",
    "geo_region": "DE-BE",
    "geo_city": "Berlin",
    "geo_timezone": "Europe/Berlin",
    "geo_latitude": 52.52,
    "geo_longitude": 13.405,
    "geo_postal": "10115",
}


def geo_of(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name.startswith("geo_")}


async def test_nested_records_fill_the_place(tmp_path: Path) -> None:
    file = geo_file(tmp_path / "city.mmdb", {"203.0.113.0/24": BERLIN})
    here, mapped, nowhere, nonsense = await enriched(
        *({"client.address": text} for text in ("203.0.113.7", "::ffff:203.0.113.7", "198.51.100.1", "me")),
        geo={"databases": [str(file)]},
    )
    assert geo_of(here) == geo_of(mapped) == PLACE
    assert geo_of(nowhere) == geo_of(nonsense) == {}
    # 06:06 in London is 07:06 in Berlin.
    assert here["$enrich"]["time"] == {"hour": 6, "weekday": 3, "business_hours": False}


async def test_flat_records_and_several_files_add_up(tmp_path: Path) -> None:
    flat = {"country_code": "US", "state1": "California", "city": "Oakland", "postcode": "94601"}
    flat |= {"latitude": 37.8, "longitude": -122.2, "timezone": "America/Los_Angeles"}
    files = [
        geo_file(tmp_path / "v4.mmdb", {"203.0.113.0/24": flat}),
        geo_file(tmp_path / "v6.mmdb", {"2001:db8::/32": {"country_code": "JP"}}, version=6),
        geo_file(
            tmp_path / "asn.mmdb",
            {"203.0.113.0/25": {"autonomous_system_number": 64500, "autonomous_system_organization": "Example Net"}},
        ),
    ]
    four, six = await enriched(
        {"client.address": "203.0.113.7"}, {"client.address": "2001:db8::1"}, geo={"databases": [str(f) for f in files]}
    )
    assert (four["geo_region"], four["geo_city"], four["geo_postal"]) == ("California", "Oakland", "94601")
    assert (four["geo_asn"], four["geo_as_org"]) == (64500, "Example Net")
    assert geo_of(six) == {"geo_country": "JP"}


@pytest.mark.parametrize("damage", ["missing", "truncated", "another type", "a folder"])
async def test_a_file_that_is_none_is_an_error_at_start(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "city.mmdb"
    if damage == "truncated":
        data = geo_file(file, {f"10.{n}.0.0/16": BERLIN for n in range(200)}).read_bytes()
        file.write_bytes(data[: len(data) // 2])
    elif damage == "another type":
        file.write_bytes(gzip.compress(b"not a database" * 100))
    elif damage == "a folder":
        file.mkdir()
    with pytest.raises(ColonnadeError, match="processor enrich can not read") as caught:
        async with running(geo={"databases": [str(file)]}):
            pass
    assert str(file) in caught.value.message


async def test_a_file_is_read_again_when_it_changes_and_the_old_one_stays_otherwise(tmp_path: Path) -> None:
    file = geo_file(tmp_path / "city.mmdb", {"203.0.113.0/24": BERLIN})
    host = FakeHost("enrich", kind="processor")
    batch = completed({"client.address": "203.0.113.7"})
    async with running(host, geo={"databases": [str(file)]}, reload_interval="10ms") as processor:
        assert 0 <= host.gauge_value("processor_enrich_database_age_seconds") < 60
        other = geo_file(tmp_path / "new.mmdb", {"203.0.113.0/24": {"country": {"iso_code": "FR"}}})
        os.replace(other, file)
        await until(lambda: rows_of(processor, batch)[0]["geo_country"] == "FR")
        file.write_bytes(b"broken")
        await until(lambda: host.labelled_of("processor_enrich_reloads", result="failed") == 1)
        file.unlink()
        await until(lambda: host.labelled_of("processor_enrich_reloads", result="failed") == 2)
        assert rows_of(processor, batch)[0]["geo_country"] == "FR"


async def test_a_zone_that_nobody_knows_has_no_time(tmp_path: Path) -> None:
    file = geo_file(tmp_path / "a.mmdb", {"203.0.113.0/24": {"location": {"time_zone": "Mars/Olympus"}}})
    (row,) = await enriched({"client.address": "203.0.113.7"}, geo={"databases": [str(file)]})
    assert "time" not in row["$enrich"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
async def test_own_tables_fill_columns(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"customers.{form}"
    table = pa.table({"id": [7, 8], "region": ["EMEA", "APAC"], "seats": [5, None]})
    if form == "csv":
        path.write_text("id,region,seats\n7,EMEA,5\n8,APAC,\n")
    else:
        pq.write_table(table, path)
    lookup = {
        "path": str(path),
        "column": "actor_id",
        "key": "id",
        "columns": {"geo_region": "region", "geo_asn": "seats"},
    }
    seven, eight, nine = await enriched({"user.id": "7"}, {"user.id": "8"}, {"user.id": "9"}, lookups=[lookup])
    assert geo_of(seven) == {"geo_region": "EMEA", "geo_asn": 5}
    assert geo_of(eight) == {"geo_region": "APAC"}
    assert geo_of(nine) == {}


async def test_an_own_table_that_vanishes_stays_in_use(tmp_path: Path) -> None:
    path = tmp_path / "customers.csv"
    path.write_text("id,region\n7,EMEA\n")
    host = FakeHost("enrich", kind="processor")
    lookup = {"path": str(path), "column": "actor_id", "key": "id", "columns": {"geo_region": "region"}}
    async with running(host, lookups=[lookup], reload_interval="10ms") as processor:
        batch = completed({"user.id": "7"})
        path.write_text("id,region\n7,Moon base\n")
        await until(lambda: rows_of(processor, batch)[0]["geo_region"] == "Moon base")
        path.unlink()
        await until(lambda: host.labelled_of("processor_enrich_reloads", result="failed") == 1)
        assert rows_of(processor, batch)[0]["geo_region"] == "Moon base"


async def test_a_table_without_the_column_says_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "customers.csv"
    path.write_text("id,region\n7,EMEA\n")
    lookup = {"path": str(path), "column": "actor_id", "key": "id", "columns": {"geo_region": "area"}}
    with pytest.raises(ColonnadeError, match="no column area; there are id, region"):
        async with running(lookups=[lookup]):
            pass


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"lookups": [{"path": "a", "column": "actor", "key": "k", "columns": {"geo_city": "c"}}]}, "actor_id"),
        ({"lookups": [{"path": "a", "column": "actor_id", "key": "k", "columns": {"geo_citty": "c"}}]}, "geo_city"),
        ({"address": {"anonymize": "scramble"}}, "truncate"),
        ({"geo": {"files": []}}, "files"),
        ({"traffic": {"internal": ["https://a/"]}}, "no host"),
    ],
)
def test_configuration_errors_help(section: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Config.model_validate(section)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("truncate", ["203.0.113.0", "2001:db8:1::", None]),
        ("drop", [None, None, None]),
    ],
)
async def test_addresses_are_anonymous_after_they_were_looked_up(
    tmp_path: Path, mode: str, wanted: list[str | None]
) -> None:
    file = geo_file(tmp_path / "city.mmdb", {"203.0.113.0/24": BERLIN})
    addresses = ["203.0.113.7", "2001:db8:1:2::3", "somebody"]
    rows = await enriched(
        *({"client.address": text, "http.client_ip": text, "other": text} for text in addresses),
        geo={"databases": [str(file)]},
        address={"anonymize": mode},
    )
    for row, address, stays in zip(rows, addresses, wanted, strict=True):
        expected = {"other": address} | ({"client.address": stays, "http.client_ip": stays} if stays else {})
        assert row["attributes"] == expected
    assert geo_of(rows[0]) == PLACE


async def test_hashes_tell_only_whether_two_are_the_same() -> None:
    addresses = ["203.0.113.7", "203.0.113.7", "203.0.113.8"]
    attributes = [{"client.address": text} for text in addresses]
    one = [row["attributes"]["client.address"] for row in await enriched(*attributes, address={"anonymize": "hash"})]
    assert one[0] == one[1] != one[2]
    other = [row["attributes"]["client.address"] for row in await enriched(*attributes, address={"anonymize": "hash"})]
    assert not set(one) & set(other)


def test_the_salt_is_exchanged() -> None:
    now = [0.0]
    anonymizer = Anonymizer("hash", 60, lambda: now[0])
    before = anonymizer.exchanged("203.0.113.7")
    assert anonymizer.exchanged("203.0.113.7") == before
    now[0] = 60
    assert anonymizer.exchanged("203.0.113.7") != before


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(ADDRESSES)
def test_truncating_keeps_the_network_and_nothing_else(address: str) -> None:
    kept = Anonymizer("truncate", 60).exchanged(address)
    assert kept is not None
    given_ = ipaddress.ip_address(address)
    given_ = getattr(given_, "ipv4_mapped", None) or given_
    bits = 24 if given_.version == 4 else 48
    assert ipaddress.ip_network((kept, bits)) == ipaddress.ip_network((given_, bits), strict=False)
    assert Anonymizer("truncate", 60).exchanged(kept) == kept


@given(ADDRESSES)
def test_a_hash_holds_nothing_of_the_address(address: str) -> None:
    first, second = Anonymizer("hash", 60).exchanged(address), Anonymizer("hash", 60).exchanged(address)
    assert first is not None
    assert len(first) == 32
    assert first != second
