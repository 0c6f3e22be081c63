"""What the service accepts, and how long it waits for whom."""

from __future__ import annotations

from dataclasses import dataclass, fields

from nertune.errors import ConfigError

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on requests, on the queue and on time. All are positive.

    Attributes:
        max_body_bytes: of a request; of one line where documents are streamed.
        max_characters: of one text, in code points.
        max_texts: of one request.
        max_requests: that are answered at once; more are refused.
        max_buffered_bytes: of all requests' bodies together.
        max_streams: document streams at once.
        batch_tokens: padded tokens of a batch; 0 takes what the device computes in
            `batch_seconds`, as measured all along, or the longest of the recent texts.
        batch_seconds: how long a batch should take where `batch_tokens` is 0.
        queue_batches: accepted work from which new requests are refused, in batches.
        wait_seconds: how long a text may wait for others to share its batch, on an idle device.
        deadline_seconds: from a request's arrival in the queue to its answer.
        body_seconds: for a request's body to come; where documents are streamed, for the next
            bytes of it.
        header_seconds: for a request's headers to come, and for the next request of a connection.
        write_seconds: for a client to take an answer that is ready.
        drain_seconds: for accepted requests to be answered after SIGTERM.
    """

    max_body_bytes: int = 2 << 20
    max_characters: int = 100_000
    max_texts: int = 256
    max_requests: int = 512
    max_buffered_bytes: int = 64 << 20
    max_streams: int = 8
    batch_tokens: int = 0
    batch_seconds: float = 0.5
    queue_batches: float = 1.5
    wait_seconds: float = 0.005
    deadline_seconds: float = 30.0
    body_seconds: float = 20.0
    header_seconds: float = 20.0
    write_seconds: float = 30.0
    drain_seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (value > 0 or (field.name == "batch_tokens" and value == 0)):
                raise ConfigError(f"{field.name} is {value}: expected more than 0")
