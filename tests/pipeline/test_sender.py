"""Senders: every slice is stored, parked or left in the log, and counted; nobody waits for another's trouble."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from colonnade.pipeline.component import SliceLimits
from colonnade.pipeline.errors import Permanent, Retryable
from colonnade.pipeline.log import Append, MemoryLog
from colonnade.pipeline.sender import Sender, partitions, slice_limits
from colonnade.pipeline.settings import DeadLetterSettings, SendingQueue
from tests.pipeline.kit import EAGER, FakeHost, Numbers, Store, numbers_of, until

DRAIN_S = 20


class Rig:
    """One log with senders to some stores."""

    def __init__(self, folder: Path, *stores: Store) -> None:
        self.log = MemoryLog("logs", "logs")
        self.numbers = Numbers()
        self.hosts = {str(store.id): FakeHost(str(store.id), folder) for store in stores}
        self.folder = folder
        self.senders = [Sender(self.log, s, self.hosts[str(s.id)], slice_limits(s, [])) for s in stores]
        for sender in self.senders:
            sender.start()

    def append(self, rows: int, times: int = 1):
        for _ in range(times):
            batch = self.numbers.batch(rows)
            receipt = self.log.append(self.log.reserve(Append(b"i" * 16, [batch], rows, batch.nbytes)))
        return receipt

    async def drain(self) -> None:
        await asyncio.gather(*(sender.drain(DRAIN_S) for sender in self.senders))

    def parked(self, store: str) -> list[int]:
        rows: list[int] = []
        for path in (self.folder / store / "dead_letter").glob("*.parquet"):
            rows += [int(n) for n in pq.read_table(path)["message"].to_pylist()]
        return sorted(rows)

    def count(self, store: str, name: str) -> float:
        return self.hosts[store].counts[name]


async def test_rows_reach_every_store_and_are_counted(tmp_path) -> None:
    a, b = Store("a"), Store("b")
    rig = Rig(tmp_path, a, b)
    rig.append(10, times=5)
    await rig.drain()
    assert sorted(a.rows) == sorted(b.rows) == list(range(50))
    for name in ("a", "b"):
        assert rig.count(name, "exporter_sent_log_records") == 50
        assert rig.count(name, "pipeline_stored_items") == 50
        assert rig.hosts[name].gauge_value("exporter_queue_size") == 0
        assert rig.hosts[name].gauge_value("pipeline_in_log_items") == 0


async def test_retryable_errors_are_repeated_until_stored_under_the_same_name(tmp_path) -> None:
    names = []

    def plan(n, part):
        names.append((part.log_id, part.start, part.end))
        if n < 5:
            raise Retryable("down", "connection refused")

    store = Store("a", plan, queue={"num_consumers": 1})
    rig = Rig(tmp_path, store)
    rig.append(3)
    await until(lambda: len(store.rows) == 3)
    assert len(set(names)) == 1
    assert rig.count("a", "exporter_retries") == 5
    assert [s.state for s in rig.hosts["a"].statuses] == ["ok", "recoverable_error", "ok"]
    await rig.drain()


async def test_the_rows_that_are_refused_are_parked_with_their_reason_and_the_rest_is_stored(tmp_path) -> None:
    def plan(n, part):
        if {7, 8, 40} & set(numbers_of(part.batches)):
            raise Permanent("bad_rows", "column x does not exist")

    store = Store("a", plan, queue={"num_consumers": 1})
    rig = Rig(tmp_path, store)
    rig.append(30)
    rig.append(30)
    await until(lambda: rig.count("a", "exporter_dead_letter_rows") == 3)
    await rig.drain()
    assert sorted([*store.rows, 7, 8, 40]) == list(range(60))
    assert rig.parked("a") == [7, 8, 40]
    assert rig.count("a", "exporter_send_failed_log_records") == 3
    assert rig.count("a", "pipeline_stored_items") == 57
    assert len(store.names) == len(set(store.names))
    path = next((tmp_path / "a" / "dead_letter").iterdir())
    metadata = pq.read_schema(path).metadata
    assert metadata[b"reason"] == b"column x does not exist"
    assert metadata[b"code"] == b"bad_rows"


async def test_an_error_that_is_no_rows_fault_parks_the_slice_whole(tmp_path) -> None:
    class Misconfigured(Permanent):
        splits = False

    def plan(n, part):
        if n == 0:
            raise Misconfigured("no_table", "no such table")

    store = Store("a", plan, queue={"num_consumers": 1})
    rig = Rig(tmp_path, store)
    rig.append(3)
    await until(lambda: rig.count("a", "exporter_dead_letter_rows") == 3)
    rig.append(2)
    await rig.drain()
    assert (store.rows, rig.parked("a")) == ([3, 4], [0, 1, 2])


async def test_where_everything_is_refused_halving_ends(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("colonnade.pipeline.halving.REFUSALS_IN_A_ROW", 20)

    def plan(n, part):
        if any(number < 900 for number in numbers_of(part.batches)):
            raise Permanent("bad_rows", "no")

    store = Store("a", plan, queue={"num_consumers": 1})
    rig = Rig(tmp_path, store)
    rig.append(1000)
    await rig.drain()
    assert store.attempts < 60
    assert sorted(store.rows + rig.parked("a")) == list(range(1000))


async def test_while_a_store_fails_two_slices_are_under_way_and_one_of_them_tries(tmp_path) -> None:
    down = [True]

    def plan(n, part):
        if down[0]:
            raise Retryable("down", "connection refused")

    retry = {"initial_interval": "1h", "max_interval": "1h"}
    one_row = SliceLimits(min_rows=0, max_rows=1)
    store = Store("a", plan, retry=retry, queue={"num_consumers": 1000}, limits=one_row)
    rig = Rig(tmp_path, store)
    rig.append(1)
    await until(lambda: store.attempts == 1)
    rig.append(100)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert store.attempts == 2
    assert rig.hosts["a"].gauge_value("exporter_in_flight_requests") == 2
    down[0] = False
    await rig.drain()
    assert sorted(store.rows) == list(range(101))


async def test_a_hanging_store_does_not_stop_another(tmp_path) -> None:
    gate = asyncio.Event()
    slow, quick = Store("slow", lambda n, part: gate.wait()), Store("quick")
    rig = Rig(tmp_path, slow, quick)
    rig.append(10, times=30)
    await until(lambda: len(quick.rows) == 300)
    assert slow.rows == []
    assert rig.hosts["slow"].gauge_value("exporter_lag_rows") == 300
    assert rig.hosts["slow"].gauge_value("exporter_in_flight_requests") > 0
    gate.set()
    await rig.drain()
    assert sorted(slow.rows) == list(range(300))


async def test_finite_max_elapsed_time_ends_in_the_dead_letter_folder(tmp_path) -> None:
    def plan(n, part):
        raise Retryable("down", "connection refused", delay_s=10)

    retry = {"max_elapsed_time": "1s", "initial_interval": "1ms", "max_interval": "1ms"}
    rig = Rig(tmp_path, Store("a", plan, retry=retry))
    rig.append(4)
    await until(lambda: rig.count("a", "exporter_dead_letter_rows") == 4)
    assert rig.parked("a") == [0, 1, 2, 3]
    await rig.drain()


async def test_retry_switched_off_parks_at_once(tmp_path) -> None:
    def plan(n, part):
        raise Retryable("down", "connection refused")

    store = Store("a", plan, retry={"enabled": False})
    rig = Rig(tmp_path, store)
    rig.append(4)
    await until(lambda: rig.count("a", "exporter_dead_letter_rows") == 4)
    assert store.attempts == 1
    await rig.drain()


async def test_unforeseen_errors_are_repeated_a_few_times_only_and_not_quoted(tmp_path, caplog) -> None:
    def plan(n, part):
        raise RuntimeError("secret row")

    store = Store("a", plan)
    rig = Rig(tmp_path, store)
    rig.append(4)
    await until(lambda: rig.count("a", "exporter_dead_letter_rows") == 4)
    assert store.attempts == 5
    assert "secret row" not in caplog.text
    await rig.drain()


async def test_an_attempt_is_bounded_by_the_timeout(tmp_path) -> None:
    store = Store("a", lambda n, part: asyncio.Event().wait() if n == 0 else None)
    store.timeout_s = 0.001
    rig = Rig(tmp_path, store)
    rig.append(4)
    await until(lambda: len(store.rows) == 4)
    assert rig.hosts["a"].labelled["exporter_retries", (("code", "timeout"), ("pipeline", "logs"))] == 1
    await rig.drain()


async def test_drain_cuts_the_wait_short_and_tries_once_more(tmp_path) -> None:
    def plan(n, part):
        if n == 0:
            raise Retryable("down", "not yet")

    store = Store("a", plan, retry={"initial_interval": "1h", "max_interval": "1h"})
    rig = Rig(tmp_path, store)
    rig.append(4)
    await until(lambda: store.attempts == 1)
    await rig.drain()
    assert store.rows == [0, 1, 2, 3]


async def test_drain_parks_what_a_dead_store_did_not_take(tmp_path) -> None:
    def plan(n, part):
        raise Retryable("down", "connection refused")

    store = Store("a", plan, retry={"initial_interval": "1h", "max_interval": "1h"}, queue={"num_consumers": 2})
    rig = Rig(tmp_path, store)
    rig.append(4, times=10)
    await until(lambda: store.attempts > 0)
    rig.append(1, times=10)
    await rig.drain()
    assert sorted(rig.parked("a")) == list(range(50))
    assert rig.count("a", "pipeline_failed_items") == 50
    assert rig.senders[0].cursor.lag_rows == 0
    assert await rig.senders[0].drain(1) == 0


async def test_drain_gives_up_at_the_deadline_on_a_store_that_hangs(tmp_path) -> None:
    store = Store("a", lambda n, part: asyncio.Event().wait())
    rig = Rig(tmp_path, store)
    rig.append(4)
    await until(lambda: store.attempts == 1)
    assert await rig.senders[0].drain(0.001) == 4
    assert rig.parked("a") == [0, 1, 2, 3]


async def test_a_folder_that_can_not_be_written_counts_rows_as_lost_and_goes_on(tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    def plan(n, part):
        if part.start < 4:
            raise Permanent("bad", "no")

    store = Store("a", plan, queue={"num_consumers": 1})
    store.dead_letter = DeadLetterSettings(directory=str(blocked / "below"))
    rig = Rig(tmp_path, store)
    rig.append(4)
    await until(lambda: rig.count("a", "exporter_dead_letter_lost_rows") == 4)
    rig.append(1)
    await rig.drain()
    assert store.rows == [4]


async def test_dead_letters_stay_within_their_bound_and_count_what_gave_way(tmp_path) -> None:
    def plan(n, part):
        raise Permanent("bad", "no")

    store = Store("a", plan, queue={"num_consumers": 1})
    rig = Rig(tmp_path, store)
    rig.append(10)
    await until(lambda: rig.count("a", "exporter_dead_letter_rows") == 10)
    size = rig.hosts["a"].gauge_value("exporter_dead_letter_bytes")
    store.dead_letter = DeadLetterSettings(max_size=int(size * 2.5))
    await rig.drain()
    rig.senders = [Sender(rig.log, store, rig.hosts["a"], EAGER)]
    rig.senders[0].start()
    for total in range(20, 100, 10):
        rig.append(10)
        await until(lambda total=total: rig.count("a", "exporter_dead_letter_rows") == total)
    await rig.drain()
    assert rig.count("a", "exporter_dead_letter_lost_rows") == 70
    assert rig.parked("a") == list(range(70, 90))


async def test_hand_over_gives_the_cursor_to_another_sender_and_loses_nothing(tmp_path) -> None:
    gate = asyncio.Event()
    old = Store("a", lambda n, part: gate.wait(), queue={"num_consumers": 3})
    rig = Rig(tmp_path, old)
    rig.append(5, times=20)
    await until(lambda: old.attempts > 0)
    await rig.senders[0].hand_over(0.001)
    new = Store("a")
    rig.senders = [Sender(rig.log, new, rig.hosts["a"], EAGER)]
    rig.senders[0].start()
    await rig.drain()
    assert sorted(new.rows) == list(range(100))
    assert old.rows == []
    assert new.ranges[0][0] == 0


async def test_wait_for_result_answers_after_the_store(tmp_path) -> None:
    gate = asyncio.Event()
    store = Store("a", lambda n, part: gate.wait(), queue={"wait_for_result": True})
    rig = Rig(tmp_path, store)
    receipt = rig.append(5)
    task = asyncio.create_task(receipt.wait())
    await until(lambda: store.attempts == 1)
    assert not task.done()
    gate.set()
    await task
    await rig.drain()


def test_sending_queue_batch_changes_only_what_the_file_sets() -> None:
    own = SliceLimits(min_rows=100_000, max_rows=200_000, max_bytes=64 << 20, max_age_s=5)
    assert slice_limits(Store(limits=own), []) == own
    assert slice_limits(Store(limits=own, queue={"batch": None}), []) == own
    changed = slice_limits(Store(limits=own, queue={"batch": {"min_size": 7, "max_size": 9}}), [])
    assert changed == SliceLimits(min_rows=7, max_rows=9, max_bytes=64 << 20, max_age_s=5)
    in_bytes = {"batch": {"min_size": 7, "sizer": "bytes", "flush_timeout": "1s"}}
    changed = slice_limits(Store(limits=own, queue=in_bytes), [])
    assert changed == SliceLimits(min_rows=0, min_bytes=7, max_rows=200_000, max_bytes=64 << 20, max_age_s=1)
    assert SendingQueue().bound == 256 << 20


def test_partitions_without_keys_are_the_slice_itself() -> None:
    store = Store()
    log, numbers = MemoryLog("logs", "logs"), Numbers()
    cursor = log.open_cursor("a", store.queue)
    batch = numbers.batch(3)
    log.append(log.reserve(Append(b"", [batch], 3, batch.nbytes)))
    part, _ = log.cut_in_memory(cursor, EAGER)
    assert list(partitions(part, ())) == [part]
    (only,) = partitions(part, ("tenant",))
    assert (numbers_of(only.batches), only.rows, only.start, only.end) == ([0, 1, 2], 3, 0, 3)


@pytest.mark.parametrize("fault", [Permanent("bad", "no"), Retryable("down", "no"), RuntimeError("bug")])
@pytest.mark.parametrize("consumers", [1, 3])
async def test_nothing_is_lost_or_doubled_when_the_nth_export_fails_for_all_n(tmp_path, fault, consumers) -> None:
    for failing in range(6):

        def plan(n, part, failing=failing):
            if n == failing:
                raise fault

        folder = tmp_path / str(failing)
        store = Store("a", plan, queue={"num_consumers": consumers}, limits=SliceLimits(min_rows=0, max_rows=4))
        rig = Rig(folder, store)
        rig.append(3, times=6)
        await until(lambda rig=rig: rig.senders[0].cursor.lag_rows == 0)
        await rig.drain()
        assert sorted(store.rows + rig.parked("a")) == list(range(18))
        assert rig.count("a", "pipeline_stored_items") == len(store.rows)
        assert rig.count("a", "pipeline_failed_items") == len(rig.parked("a"))
