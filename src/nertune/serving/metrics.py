"""What Prometheus reads. No label holds anything that a request could choose freely."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TOKENS = (64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_DOCUMENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The service's counters, in a registry of their own.

    Attributes:
        requests: answered requests by path, method and status.
        seconds: from a request's first byte to its answer's last, by path.
        texts, characters: that were tagged, by model.
        tokens: padded tokens that were computed, as estimated.
        queue_tokens, queue_texts: accepted and not yet answered.
        full_batch_tokens: of a full batch; follows the measured speed.
        batch_tokens, batch_texts, batch_seconds: of each batch.
        refused: requests that were not accepted, by reason.
        dropped: texts that were accepted and not computed: the client left, or the time was over.
        models: how many are loaded.
        requests_in_flight: that are being answered.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "nertune_requests", "Answered requests", ["path", "method", "status"],
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "nertune_request_seconds", "Seconds of a request", ["path"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.texts = Counter("nertune_texts", "Tagged texts", ["model"], registry=registry)
        self.characters = Counter(
            "nertune_characters", "Characters of tagged texts", ["model"], registry=registry
        )
        self.tokens = Counter("nertune_tokens", "Computed tokens, estimated", registry=registry)
        self.queue_tokens = Gauge(
            "nertune_queue_tokens", "Tokens accepted, not yet answered", registry=registry
        )
        self.queue_texts = Gauge(
            "nertune_queue_texts", "Texts accepted, not yet answered", registry=registry
        )
        self.full_batch_tokens = Gauge(
            "nertune_full_batch_tokens", "Tokens of a full batch, as of now", registry=registry
        )
        self.batch_tokens = Histogram(
            "nertune_batch_tokens", "Tokens of a batch", buckets=_TOKENS, registry=registry
        )
        self.batch_texts = Histogram(
            "nertune_batch_texts", "Texts of a batch", buckets=_DOCUMENTS, registry=registry
        )
        self.batch_seconds = Histogram(
            "nertune_batch_seconds", "Seconds of a batch", buckets=_SECONDS, registry=registry
        )
        self.refused = Counter(
            "nertune_refused", "Requests not accepted", ["reason"], registry=registry
        )
        self.dropped = Counter(
            "nertune_dropped_texts", "Accepted texts that were not computed", registry=registry
        )
        self.models = Gauge("nertune_models", "Models loaded", registry=registry)
        self.requests_in_flight = Gauge(
            "nertune_requests_in_flight", "Requests being answered", registry=registry
        )

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
