"""Annotate any number of documents: `nertune annotate`.

The input is read as a stream and cut into chunks, which workers tag; the answers are put in order
and written in shards. Nothing depends on which worker does what, so a run that was killed and goes
on writes the same bytes as one that was not.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from nertune.data.formats.tables.parquet import import_arrow
from nertune.data.formats.values import counted
from nertune.data.inputs import hash_inputs
from nertune.errors import CheckpointError, ConfigError, DataError
from nertune.experiments.processes.engines import EngineName
from nertune.experiments.record import first_difference
from nertune.scale.chunks import Chunk, Reading, cut_chunks, read_input
from nertune.scale.plan import Survey, describe_plan, hash_model, survey
from nertune.scale.shards import MANIFEST, Shard, ShardFolder
from nertune.scale.tasks import OutputFormat, Reject, Tagging
from nertune.scale.workers import Done, LocalWorkers, Workers

__all__ = ["Annotation", "Progress", "Work", "annotate", "output_format"]

_LOG = logging.getLogger("nertune")
_AHEAD = 4  # chunks for each worker that are read and not yet written
_VERSION = 1
_MARKS = {"version", "complete", "model", "options", "inputs"}  # a manifest of ours has them


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done.

    Attributes:
        files: the input.
        output: the folder of the shards.
        tagging: how documents are tagged.
        reading: how files are read.
        workers: processes, at least 1.
        engine: `local`: processes on this machine; `ray`.
        address: of a Ray cluster; empty: this machine.
        shard_documents: of a shard, at most.
    """

    files: tuple[Path, ...]
    output: Path
    tagging: Tagging
    reading: Reading = field(default_factory=Reading)
    workers: int = 1
    engine: EngineName = "local"
    address: str = ""
    shard_documents: int = 10_240


@dataclass(slots=True)
class Progress:
    """How far it is; each worker's documents are counted from this start.

    Attributes:
        num_documents: of the input, rejected ones left out.
        done: documents that are tagged, those of an earlier start included.
        units: tagged since this start.
        seconds: since then.
        by_worker: documents of each worker.
    """

    num_documents: int
    done: int = 0
    units: int = 0
    seconds: float = 0.0
    by_worker: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Annotation:
    """What was done.

    Attributes:
        manifest: what `manifest.json` holds.
        seconds, units: of this start alone.
    """

    manifest: Mapping[str, Any]
    seconds: float
    units: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rate = self.units / self.seconds if self.seconds else 0.0
        own = {"seconds": self.seconds, "units": self.units, "units_per_second": rate}
        return {**self.manifest, "this_start": own}


def annotate(
    work: Work,
    *,
    resume: bool = False,
    overwrite: bool = False,
    observer: Callable[[Progress], None] = lambda _: None,
    workers: Workers | None = None,
) -> Annotation:
    """Tag all documents of the input and write them in shards.

    A document that cannot be read, tagged or written is in `rejects.jsonl`, with the reason. A
    worker that dies is started anew.

    Args:
        work: what is to be done.
        resume: go on after a kill; the shards that are there stay.
        overwrite: remove the shards of an earlier annotation.
        observer: is told after every chunk; what it raises ends the annotation.
        workers: tag in the place of those that `work` asks for; they are closed in the end.

    Raises:
        CheckpointError: the folder holds an annotation, or that of another model, other input or
            other options.
        ConfigError: an option is unknown, a file is named twice or lies in the output folder, or
            another process is at work there.
        DataError: the input cannot be found, or the output cannot be written.
        NertuneError: the model cannot be loaded.
    """
    with ExitStack() as stack:
        if workers is not None:
            stack.callback(workers.close)
        if resume and overwrite:
            raise ConfigError("--resume and --overwrite exclude each other")
        if work.tagging.format == "parquet":
            import_arrow()
        _check_files(work)
        return _annotate(work, observer, workers, resume=resume, overwrite=overwrite)


def _annotate(
    work: Work,
    observer: Callable[[Progress], None],
    workers: Workers | None,
    *,
    resume: bool,
    overwrite: bool,
) -> Annotation:
    inputs = hash_inputs(work.files)
    plan = describe_plan(
        work.tagging, work.reading, inputs,
        model=hash_model(work.tagging.model), shard_documents=work.shard_documents,
    )  # fmt: skip
    folder = ShardFolder(work.output, work.tagging.format)
    try:
        work.output.mkdir(parents=True, exist_ok=True)
        with FileLock(work.output / ".lock", timeout=0.2):
            done = _begin(folder, plan, resume=resume, overwrite=overwrite)
            return _run(work, folder, plan, done, observer, workers)
    except Timeout as error:
        told = f"--output: another process is at work in {work.output}"
        raise ConfigError(told) from error
    except OSError as error:
        told = f"cannot be written: {error.strerror or error}"
        raise DataError(told, path=error.filename or work.output) from error


def _check_files(work: Work) -> None:
    """Refuse what would tag a document twice."""
    output, seen = work.output.resolve(), set()
    for path in work.files:
        real = path.resolve()
        if real in seen:
            raise ConfigError(f"{path} is named twice, so its documents would be there twice")
        seen.add(real)
        if real.is_relative_to(output) or (real.is_dir() and output.is_relative_to(real)):
            raise ConfigError(f"--output: {work.output} and the input {path} lie in each other")


def _begin(
    folder: ShardFolder, plan: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> dict[int, Shard]:
    """The shards that are there already, after what must not be there has been refused."""
    path = folder.folder / MANIFEST
    before = _read_manifest(path) if path.exists() else None
    if before is None:
        foreign = [p.name for p in folder.folder.iterdir() if p.name[0] != "."]
        if foreign:
            raise CheckpointError(
                f"--output: {folder.folder} holds other files (e.g. {foreign[0]}): name a new or "
                "empty folder"
            )
    elif overwrite or not _is_begun(folder, before):
        folder.remove()
    elif not resume:
        raise CheckpointError(
            f"--output: {folder.folder} holds an annotation: use --resume to continue it, "
            "--overwrite to begin anew, or another folder"
        )
    else:
        kept = {key: before.get(key) for key in plan}
        if told := first_difference(kept, json.loads(json.dumps(plan))):
            raise CheckpointError(
                f"--output: {folder.folder} was begun with another model, other input or other "
                f"options: {told}; use --overwrite to begin anew, or another folder"
            )
    found = {shard.number: shard for shard in folder.finished()}
    if not path.exists():
        folder.write_manifest({"version": _VERSION, "complete": False, **plan})
    folder.repair(found)
    return found


def _is_begun(folder: ShardFolder, manifest: Mapping[str, Any]) -> bool:
    """Whether there is anything to lose: a start that failed at once leaves a manifest alone."""
    return manifest["complete"] is not False or any(True for _ in folder.finished())


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged ({error}); use another folder") from error
    if not isinstance(values, dict) or not values.keys() >= _MARKS:
        raise CheckpointError(f"{path}: is not of an annotation; use another folder")
    return values


def _run(
    work: Work,
    folder: ShardFolder,
    plan: Mapping[str, Any],
    done: dict[int, Shard],
    observer: Callable[[Progress], None],
    given: Workers | None,
) -> Annotation:
    found = survey(work.files, work.reading, shard_documents=work.shard_documents)
    before = f", {len(done):,} of them done before" if done else ""
    unread = f"; {found.num_rejects:,} cannot be read" if found.num_rejects else ""
    _LOG.info(
        "%s",
        f"{counted(found.num_documents, 'document')} in {counted(found.num_shards, 'shard')}"
        f"{before}{unread}",
    )
    progress = Progress(found.num_documents)
    progress.done = sum(shard.tagged.num_documents for shard in done.values())
    if len(done) < found.num_shards:
        started = time.perf_counter()
        with closing(given or _open_workers(work, found)) as workers, closing(folder):
            course = _Course(work, folder, workers, done, progress, observer, started)
            course.follow()
        progress.seconds = time.perf_counter() - started
    _check_unchanged(work, plan)
    folder.repair(done)  # in order, also if shards were made again
    folder.write_rejects(done)
    manifest = {"version": _VERSION, "complete": True, **plan, **_counts(done)}
    folder.write_manifest(manifest)
    return Annotation(manifest, progress.seconds, progress.units)


def _check_unchanged(work: Work, plan: Mapping[str, Any]) -> None:
    """The input was hashed first and read afterwards.

    Raises:
        CheckpointError: it was changed meanwhile, so nobody knows what was tagged.
    """
    before = {one["path"]: one["sha256"] for one in plan["inputs"]}
    after = {one.path: one.sha256 for one in hash_inputs(work.files)}
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    if changed:
        raise CheckpointError(
            f"{changed[0]} was changed while it was annotated: use --overwrite to begin anew"
        )


def _open_workers(work: Work, found: Survey) -> Workers:
    if work.engine == "ray":
        from nertune.scale.ray_workers import RayWorkers

        return RayWorkers(work.tagging, work.workers, address=work.address)
    return LocalWorkers(work.tagging, min(work.workers, max(1, found.num_chunks)))


def _counts(done: Mapping[int, Shard]) -> dict[str, Any]:
    entities: Counter[str] = Counter()
    losses: Counter[str] = Counter()
    for shard in done.values():
        entities.update(shard.tagged.entities)
        losses.update(shard.tagged.losses)
    return {
        "documents": sum(shard.tagged.num_documents for shard in done.values()),
        "rejected": sum(len(shard.tagged.rejects) for shard in done.values()),
        "lost": dict(sorted(losses.items())),
        "units": sum(shard.tagged.num_units for shard in done.values()),
        "entities": dict(sorted(entities.items())),
        "shards": [
            {"file": s.file, "sha256": s.sha256, "documents": s.tagged.num_documents}
            for _, s in sorted(done.items())
            if s.file
        ],
    }


@dataclass
class _Course:
    """One go through the input: chunks out to workers, answers back in order."""

    work: Work
    folder: ShardFolder
    workers: Workers
    done: dict[int, Shard]
    progress: Progress
    observer: Callable[[Progress], None]
    started: float
    _sent: dict[int, Chunk] = field(default_factory=dict)
    _answers: dict[int, Done] = field(default_factory=dict)
    _order: list[int] = field(default_factory=list)  # numbers of chunks, in the order of the input
    _told: set[str] = field(default_factory=set)

    def follow(self) -> None:
        rejects: list[Reject] = []
        documents = read_input(self.work.files, self.work.reading, rejects.append)
        most = _AHEAD * self.workers.num_workers
        shards = set(self.done)
        for chunk in cut_chunks(documents, rejects, shard_documents=self.work.shard_documents):
            if chunk.shard in shards:
                continue
            while len(self._sent) >= most:
                self._take()
            self._sent[chunk.number] = chunk
            self._order.append(chunk.number)
            self.workers.submit(chunk.number, chunk.documents)
        while self._sent:
            self._take()

    def _take(self) -> None:
        """Wait for an answer, and write those whose turn it is."""
        answer = self.workers.wait()
        self._answers[answer.number] = answer
        progress = self.progress
        progress.done += answer.tagged.num_documents
        progress.units += answer.tagged.num_units
        progress.by_worker[answer.worker] += answer.tagged.num_documents
        progress.seconds = time.perf_counter() - self.started
        for notice in answer.tagged.notices:
            self._tell(notice)
        while self._order and self._order[0] in self._answers:
            number = self._order.pop(0)
            chunk, found = self._sent.pop(number), self._answers.pop(number)
            shard = self.folder.add(
                chunk.shard, found.tagged, rejects=chunk.rejects, is_last=chunk.is_last
            )
            if shard is not None:
                self.done[shard.number] = shard
        self.observer(progress)

    def _tell(self, notice: str) -> None:
        """Warn once of each kind: most differ in a number alone."""
        kind = re.sub(r"\d+", "", notice)
        if kind not in self._told:
            self._told.add(kind)
            _LOG.warning("%s", notice)


def output_format(name: str) -> OutputFormat:
    """The format of the shards.

    Raises:
        ConfigError: it is unknown.
    """
    if name not in ("jsonl", "parquet"):
        raise ConfigError(f"--format {name!r}: expected jsonl or parquet")
    return cast("OutputFormat", name)
