"""`colonnade run`: start, say where it listens, serve, reload on SIGHUP, drain on SIGTERM and SIGINT.

Exit: 0 after a clean stop; 1 when the configuration is wrong, something fails to start, a component ends the daemon, or
rows could not be stored before the deadline. A second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
import time
import uuid
from typing import Any

from colonnade import __version__
from colonnade.daemon.configuration import ConfigError, Configuration, load
from colonnade.daemon.graph import Engine, StartFailed
from colonnade.daemon.health import Health
from colonnade.daemon.host import Services
from colonnade.daemon.logs import NAME, set_up
from colonnade.daemon.telemetry import Metrics, MetricsPages, Process, resource_attributes
from colonnade.pipeline.component import Extension

READY = "Everything is ready. Begin running and processing data."
# One Ctrl-C reaches the daemon twice where a wrapper passes it on as well.
SAME_SIGNAL_WITHIN_S = 0.3
# Idle threads end at once; those that wait for a store are not waited for.
THREADS_END_WITHIN_S = 1.0
# What the listener counts, and the instrument it becomes.
_STATS = {
    "connections_open": "listener_connections",
    "bytes_in": "listener_received_bytes",
    "queue_bytes": "listener_queue_bytes",
    "expired": "listener_expired_requests",
    "resets": "listener_resets",
}
# Its counters that become one instrument, with the value of `reason`.
_REASONS = {
    "listener_refusals": {
        "bad_encoding": "bad_encoding",
        "body_timeouts": "body_timeout",
        "malformed": "malformed",
        "method_not_allowed": "method_not_allowed",
        "not_found": "not_found",
        "queue_full": "queue_full",
        "tenant_over_share": "tenant_over_share",
        "too_large": "too_large",
        "unanswered": "unanswered",
        "unauthenticated": "unauthenticated",
        "unsupported_media_type": "unsupported_media_type",
    },
    "listener_closed_connections": {
        "connections_refused": "too_many",
        "header_timeouts": "header_timeout",
        "idle_timeouts": "idle",
        "protocol_errors": "protocol_error",
        "tls_errors": "tls_error",
        "write_timeouts": "write_timeout",
    },
}


class Daemon:
    """One process's life."""

    def __init__(self, uris: tuple[str, ...], sets: tuple[str, ...]) -> None:
        self.uris = uris
        self.sets = sets
        self.logger = logging.getLogger(NAME)
        self.exit_status = 0
        self.threads_ended = True
        self._instance_id = str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._signals = 0
        self._signalled_at_s = 0.0

    async def run(self, configuration: Configuration) -> int:
        """Returns the exit status once everything is stopped.

        Raises:
            StartFailed, ColonnadeError, OSError: it did not start; nothing is left open.
        """
        from colonnade.native import Listener

        set_up(configuration.service.telemetry.logs)
        self._tell_warnings(configuration)
        metrics = Metrics(configuration.service.telemetry.metrics.level)
        self.health = Health(self._fatal)
        self.services = Services(metrics, self.health, Listener())
        metrics.before_scrape += [Process(metrics).refresh, self._refresh_listener, self._refresh_status]
        self.pages = MetricsPages(metrics)
        self.engine = Engine(self.services)
        self._watch_signals()
        try:
            await self._apply(configuration)
            self.health.phase = "ready"
            self._tell_ready(configuration)
            await self._serve()
        finally:
            self.health.phase = "stopping"
            await self._shutdown()
        return self.exit_status

    async def _apply(self, configuration: Configuration) -> None:
        """Own telemetry first, then the graph. Raises with everything as it was."""
        telemetry = configuration.service.telemetry
        before = getattr(self, "configuration", None)
        await self._apply_pages(configuration)
        try:
            await self.engine.apply(configuration)
        except BaseException:
            if before is not None:
                await self._apply_pages(before)
            raise
        self.configuration = configuration
        self.services.metrics.set_level(telemetry.metrics.level)
        set_up(telemetry.logs)

    async def _apply_pages(self, configuration: Configuration) -> None:
        telemetry = configuration.service.telemetry
        attributes = resource_attributes(telemetry.resource, __version__, self._instance_id)
        await self.pages.apply(telemetry.metrics.prometheus, attributes)

    async def _serve(self) -> None:
        """Until told to stop; reloads one at a time."""
        stop = asyncio.create_task(self._stop.wait())
        while not stop.done():
            reload = asyncio.create_task(self._reload.wait())
            await asyncio.wait((stop, reload), return_when=asyncio.FIRST_COMPLETED)
            reload.cancel()
            if self._reload.is_set() and not self._stop.is_set():
                self._reload.clear()
                await self._swap()

    async def _swap(self) -> None:
        """A reload: whatever fails, what runs keeps running."""
        self.logger.info("reloading the configuration")
        try:
            configuration = await asyncio.get_running_loop().run_in_executor(None, load, self.uris, self.sets)
            self._tell_warnings(configuration)
            await self._apply(configuration)
        except (ConfigError, StartFailed, OSError) as error:
            self.logger.error("reload refused, the old configuration keeps running: %s", error)
        except Exception as error:
            self.logger.error("reload failed, the old configuration keeps running: %s: %s", type(error).__name__, error)
            self.logger.debug("details", exc_info=True)
        else:
            self.logger.info("reloaded; %s", self._listening())

    async def _shutdown(self) -> None:
        deadline_s = getattr(self, "configuration", None)
        timeout_s = deadline_s.service.shutdown_timeout if deadline_s else 5.0
        left = await self.engine.shutdown(timeout_s)
        await self.pages.close()
        await asyncio.get_running_loop().run_in_executor(None, self.services.listener.close, 0.1)
        if left:
            self.exit_status = 1
        self.threads_ended = self.services.close(THREADS_END_WITHIN_S)
        if not self.threads_ended:
            self.logger.warning("a store does not answer: threads that wait for it are left behind")
        self.logger.info("Shutdown complete.")

    def _fatal(self, message: str) -> None:
        self.exit_status = 1
        self.logger.error("a component ends the daemon: %s", message)
        self._stop.set()

    # --- signals

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)

    def _asked_to_stop(self, number: int) -> None:
        now_s = time.monotonic()
        if self._signals and now_s - self._signalled_at_s < SAME_SIGNAL_WITHIN_S:
            return
        self._signals, self._signalled_at_s = self._signals + 1, now_s
        name = signal.Signals(number).name
        if self._signals > 1:
            self.logger.error("second signal (%s): exit now, without draining", name)
            os._exit(1)
        self.logger.info("%s: stop taking requests and drain; a second signal ends at once", name)
        self._stop.set()

    # --- what it says

    def _tell_warnings(self, configuration: Configuration) -> None:
        for warning in configuration.warnings:
            self.logger.warning("%s", warning)
        for sentence in configuration.added:
            self.logger.info("%s", sentence)

    def _tell_ready(self, configuration: Configuration) -> None:
        tips = [self._listening()]
        if any(id.type == "clickhouse_query" for id in configuration.extensions):
            tips.append('try: colonnade demo; colonnade query "SELECT event_type, count() FROM events GROUP BY ALL"')
        self.logger.info("%s %s", READY, "; ".join(tips))

    def _listening(self) -> str:
        graph = self.engine.graph
        bound = self.engine.doors.addresses
        places = dict.fromkeys(
            f"{o.receiver} ({o.entry.transport}) on {bound.get(o.entry.server.address, o.entry.server.address)}"
            for o in (graph.openings if graph else [])
        )
        pages = [f"own metrics on {address}" for address in self.pages.addresses]
        extensions = self.services.extensions.values()
        others = [place for one in extensions if isinstance(one, Extension) for place in one.serves]
        return "listening: " + ", ".join([*places, *pages, *others])

    # --- metrics of what is not a component

    def _refresh_listener(self) -> None:
        stats: dict[str, Any] = self.services.listener.stats()
        for key, name in _STATS.items():
            self.services.metrics.set(name, stats.get(key, 0), {})
        for name, reasons in _REASONS.items():
            for key, reason in reasons.items():
                if number := stats.get(key, 0):
                    self.services.metrics.set(name, number, {"reason": reason})
        answers: dict[str, float] = {}
        for (_, answer), number in stats.get("requests", {}).items():
            answers[answer] = answers.get(answer, 0) + number
        for answer, number in answers.items():
            self.services.metrics.set("listener_requests", number, {"answer": answer})

    def _refresh_status(self) -> None:
        metrics = self.services.metrics
        metrics.clear("component_status")
        for report in self.health.reports():
            name = f"{report.id}" + (f" ({report.pipelines[0]})" if report.pipelines else "")
            labels = {"kind": report.kind, "component": name, "status": report.status.state}
            metrics.set("component_status", 1, labels)


def run(uris: tuple[str, ...], sets: tuple[str, ...]) -> int:
    """Reads the configuration and runs it. Raises ConfigError before anything is started."""
    configuration = load(uris, sets)

    async def main() -> Daemon:
        daemon = Daemon(uris, sets)
        await daemon.run(configuration)
        return daemon

    try:
        from uvloop import run as run_loop
    except ImportError:
        from asyncio import run as run_loop
    ended = run_loop(main())
    if not ended.threads_ended:
        # The interpreter would wait for those threads, past every deadline.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(ended.exit_status)
    return ended.exit_status
