"""How much there is to annotate, and about how long it will take: `nertune annotate --dry-run`."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from nertune.data.inputs import hash_inputs
from nertune.errors import ConfigError, DataError
from nertune.scale.annotate import Work
from nertune.scale.plan import survey
from nertune.scale.tasks import Tagged
from nertune.scale.workers import LocalWorkers

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of an annotation.

    Attributes:
        files, documents, characters, rejects, shards: of the input.
        sample: documents that were tagged to measure.
        units_per_second: of all workers, on the sample.
        workers: how many.
        seconds: that the whole would take at this rate.
        bytes: that the shards would take, if the rest is like the sample.
    """

    files: int
    documents: int
    characters: int
    rejects: int
    shards: int
    sample: int
    units_per_second: float
    workers: int
    seconds: float
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def forecast(work: Work) -> Forecast:
    """Read the input, and tag a sample of it with as many workers as asked for.

    Nothing is written. The time to load the model is not in the rate.

    Raises:
        ConfigError: the work is for Ray, whose machines are not known.
        DataError: the input cannot be found, or holds no document.
        NertuneError: the model cannot be loaded.
    """
    if work.engine != "local":
        raise ConfigError("--dry-run measures this machine: leave out --engine ray")
    files = hash_inputs(work.files)
    found = survey(work.files, work.reading, shard_documents=work.shard_documents)
    if not found.sample:
        raise DataError("the input holds no document", path=work.files[0])
    pieces = _share_out(found.sample, work.workers)
    workers = LocalWorkers(work.tagging, len(pieces))
    try:
        for number in range(len(pieces)):  # once to load and to warm up
            workers.submit(number, found.sample[:8])
        for _ in pieces:
            workers.wait()
        started = time.perf_counter()
        for number, piece in enumerate(pieces):
            workers.submit(number, piece)
        answers = [workers.wait().tagged for _ in pieces]
        seconds = time.perf_counter() - started
    finally:
        workers.close()
    return _extrapolate(work, len(files), found, answers, seconds, len(pieces))


def _share_out(sample: tuple[Any, ...], workers: int) -> list[tuple[Any, ...]]:
    """As many documents to each worker; a worker has at least one."""
    number = min(workers, len(sample))
    return [sample[i::number] for i in range(number)]


def _extrapolate(
    work: Work, files: int, found: Any, answers: list[Tagged], seconds: float, workers: int
) -> Forecast:
    units = sum(answer.num_units for answer in answers)
    characters = max(1, sum(len(document.text) for document in found.sample))
    share = found.num_characters / characters
    return Forecast(
        files=files,
        documents=found.num_documents,
        characters=found.num_characters,
        rejects=found.num_rejects,
        shards=found.num_shards,
        sample=len(found.sample),
        units_per_second=units / seconds,
        workers=workers,
        seconds=seconds * share,
        bytes=round(sum(len(answer.data) for answer in answers) * share),
    )
