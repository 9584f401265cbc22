"""What ``/metrics`` says, and the watchdog of the event loop. Numbers only: no name, key, value or text."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_LATE_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_TICK_S = 0.01


class Metrics:
    """The metrics of one server; each server has its own registry.

    Attributes:
        registry: Where they are.
        longest_lag_s: The longest time that the event loop was late.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.longest_lag_s = 0.0
        self.requests = Counter(
            "helora_requests", "Requests answered or refused, by the refusal's code", ["code"], registry=registry
        )
        self.refusals = Counter(
            "helora_http_refusals", "HTTP requests and sockets refused, by code", ["code"], registry=registry
        )
        self.compute = Histogram(
            "helora_compute_seconds",
            "From the worker to the answer, waiting for a thread included",
            buckets=_SECONDS,
            registry=registry,
        )
        self.waiting = Histogram(
            "helora_wait_seconds", "From arrival until the session is ready for it", buckets=_SECONDS, registry=registry
        )
        self.sent = Histogram("helora_send_seconds", "From answer to the socket", buckets=_SECONDS, registry=registry)
        self.lag = Histogram(
            "helora_event_loop_lag_seconds", "How late the loop runs", buckets=_LATE_S, registry=registry
        )
        self.bytes = Counter("helora_bytes", "Bytes of requests and answers", ["direction"], registry=registry)
        self.keys = Counter("helora_key_uploads", "Uploads of evaluation keys", registry=registry)
        self.queries = Counter("helora_queries", "Tokens times modules that were admitted", registry=registry)
        self.opened = Counter("helora_sessions_opened", "Sessions opened", registry=registry)
        self.resumed = Counter("helora_sessions_resumed", "Sockets that took a session up again", registry=registry)
        self.expired = Counter("helora_sessions_expired", "Sessions dropped for want of frames", registry=registry)
        self.sessions = Gauge("helora_sessions", "Sessions", registry=registry)
        self.sockets = Gauge("helora_sockets", "WebSockets", registry=registry)
        self.window = Gauge("helora_window_bytes", "Bytes of answers that wait to be acknowledged", registry=registry)
        self.in_flight = Gauge("helora_in_flight_bytes", "Bytes of requests in flight", registry=registry)
        self.key_bytes = Gauge("helora_key_store_bytes", "Bytes of evaluation keys on disk", registry=registry)
        self.versions = Gauge("helora_versions", "Versions served, the current one included", registry=registry)
        self.copied = Gauge(
            "helora_share_of_copy", "Largest share of a copying client's queries that was had", registry=registry
        )
        self.model_queries = Counter(
            "helora_model_queries", "Tokens of adapters that were admitted, by mode", ["mode"], registry=registry
        )
        self.hosted_requests = Counter(
            "helora_hosted_requests", "Requests of mode hosted answered or refused, by code", ["code"],
            registry=registry,
        )  # fmt: skip
        self.hosted_tokens = Counter(
            "helora_hosted_tokens", "Tokens given and answered in mode hosted", ["kind"], registry=registry
        )
        self.hosted_seconds = Histogram(
            "helora_hosted_seconds", "From request to the end of its answer in mode hosted", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.split_requests = Counter(
            "helora_split_requests", "Requests of mode split answered or refused, by code", ["code"], registry=registry
        )
        self.split_tokens = Counter("helora_split_tokens", "Rows of hidden states answered", registry=registry)
        self.split_compute = Histogram(
            "helora_split_seconds", "From request to answer in mode split", buckets=_SECONDS, registry=registry
        )
        self.split_sessions = Gauge("helora_split_sessions", "Sessions of mode split", registry=registry)
        self.split_cache = Gauge("helora_split_cache_bytes", "Bytes of their keys and values", registry=registry)
        self._answered = self.requests.labels("")
        self._up, self._down = self.bytes.labels("up"), self.bytes.labels("down")

    def count(self, code: str, up: int, down: int) -> None:
        """A request was answered, or refused by a code."""
        (self.requests.labels(code) if code else self._answered).inc()
        self._up.inc(up)
        self._down.inc(down)

    def count_split(self, code: str, tokens: int, seconds: float) -> None:
        """A request of mode ``split`` was answered, or refused by a code."""
        self.split_requests.labels(code).inc()
        self.split_compute.observe(seconds)
        if not code:
            self.split_tokens.inc(tokens)

    def count_hosted(self, code: str, given: int, answered: int, seconds: float) -> None:
        """A request of mode ``hosted`` was answered, or refused by a code."""
        self.hosted_requests.labels(code).inc()
        self.hosted_seconds.observe(seconds)
        self.hosted_tokens.labels("prompt").inc(given)
        self.hosted_tokens.labels("completion").inc(answered)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self.registry)

    async def watch(self) -> None:
        """Measure how late the event loop runs, until cancelled."""
        while True:
            due = time.perf_counter() + _TICK_S
            await asyncio.sleep(_TICK_S)
            late = max(0.0, time.perf_counter() - due)
            self.lag.observe(late)
            self.longest_lag_s = max(self.longest_lag_s, late)
