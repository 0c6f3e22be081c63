"""A run's folder: what lies where, and what an earlier run may have left there."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from nertune.config.run import same_settings
from nertune.errors import CheckpointError, ConfigError
from nertune.storage.atomic import flush, write_json

__all__ = ["RunFolder"]

# What decides nothing about the result.
_FREE = (
    ("run", "dir"), ("run", "name"), ("train", "checkpoint_steps"), ("train", "checkpoint_minutes"),
    ("pretrain", "output"), ("data", "storage"),
)  # fmt: skip

_PATIENCE_SECONDS = 0.2


class _HasSections(Protocol):
    def to_dict(self) -> dict[str, Any]:
        """Settings by section."""
        ...

    def of_record(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a record of any version kept, as `to_dict` has it."""
        ...


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of a run below its folder.

    Attributes:
        path: the folder.
        setting: what names it to the user.
    """

    path: Path
    setting: str = "run.dir"

    @property
    def model(self) -> Path:
        """The trained tagger."""
        return self.path / "model"

    @property
    def record(self) -> Path:
        """Written last: its presence means that the run is finished."""
        return self.path / "record.json"

    @property
    def log(self) -> Path:
        """Losses and scores as they came."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Removed when the run is finished."""
        return self.path / "checkpoints"

    @property
    def soft(self) -> Path:
        """What a teacher says of unlabelled text; removed when the run is finished."""
        return self.path / "soft"

    @property
    def prepared(self) -> Path:
        """Text in tokens, of a pre-training run."""
        return self.path / "prepared"

    def predictions(self, split: str) -> Path:
        """The predictions of the best weights on dev or test."""
        return self.path / f"{split}.predictions.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out; a process that dies lets go of the folder.

        Raises:
            ConfigError: another process works in it, or it cannot be made or written to.
        """
        self._make()
        path = self.path / ".lock"
        # A little patience: the one before may be just leaving. No lock file that stands for the
        # lock by being there: a kill would leave it.
        lock = FileLock(path, timeout=_PATIENCE_SECONDS, fallback_to_soft=False)
        try:
            lock.acquire(poll_interval=_PATIENCE_SECONDS / 4)
        except Timeout as error:
            raise ConfigError(
                f"{self.setting}: another process is at work in {self.path}; wait for it, or "
                f"use another {self.setting}"
            ) from error
        except OSError:  # a file system without locks
            yield
            return
        try:
            yield
        finally:
            # While it is held: who waits for this very file sees that it is gone, and tries again.
            with suppress(OSError):  # Windows removes no open file
                path.unlink()
            lock.release()

    def prepare(
        self, settings: _HasSections, *, resume: bool, overwrite: bool
    ) -> dict[str, Any] | None:
        """`check`, and for a run that is to be done `begin`."""
        finished = self.check(settings, resume=resume, overwrite=overwrite)
        if finished is None:
            self.begin(overwrite=overwrite)
        return finished

    def check(
        self, settings: _HasSections, *, resume: bool, overwrite: bool
    ) -> dict[str, Any] | None:
        """See what is there; gives the record of a finished run that is resumed.

        Nothing is removed: what an earlier run left goes when its successor really begins.

        Raises:
            ConfigError: the folder holds a run and neither resume nor overwrite was asked for,
                or cannot be made or written to.
            CheckpointError: the finished run had other settings, or its record is damaged.
        """
        if resume and overwrite:
            raise ConfigError("--resume and --overwrite exclude each other")
        self._make()
        self._refuse_foreign_model()
        if overwrite:
            return None
        if self.record.exists():
            if not resume:
                raise ConfigError(
                    f"{self.setting}: {self.path} holds a finished run; use --overwrite to replace "
                    f"it, or another {self.setting}"
                )
            return self._finished(settings)
        if self.checkpoints.exists() and not resume:
            raise ConfigError(
                f"{self.setting}: {self.path} holds an unfinished run; use --resume to continue "
                f"it, --overwrite to start again, or another {self.setting}"
            )
        return None

    def begin(self, *, overwrite: bool) -> None:
        """Remove what an earlier run left, or only what a kill left half-written of this one."""
        if overwrite:
            self.remove_run()
        else:
            self._sweep()

    def finish(self, record: dict[str, Any]) -> None:
        """Write the record, then remove the checkpoints: all else is on the disk by then."""
        if self.log.exists():
            flush(self.log)
        write_json(self.record, record)
        for folder in (self.checkpoints, self.soft):
            shutil.rmtree(folder, ignore_errors=True)

    def _make(self) -> None:
        """Have a folder that can be written to, before hours of training and not behind them."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise ConfigError(f"{self.setting}: {self.path} is a file; expected a folder")
            self.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            name, limit = str(self.path), 200
            name = name if len(name) <= limit else f"{name[:limit]}…"
            raise ConfigError(
                f"{self.setting}: {name} cannot be written to: {error.strerror}"
            ) from error

    def _refuse_foreign_model(self) -> None:
        """A run would replace it in the end."""
        traces = (self.record, self.checkpoints, self.log, self.path / "plan.json",
                  self.model / "nertune.json")  # fmt: skip
        if self.model.exists() and not any(trace.exists() for trace in traces):
            raise ConfigError(
                f"{self.setting}: {self.model} was not written by a run of nertune, and a run "
                f"there would replace it; use another {self.setting}"
            )

    def _finished(self, settings: _HasSections) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(self.record.read_text(encoding="utf-8"))
            before: dict[str, dict[str, Any]] = record["settings"]
            before = {section: dict(values) for section, values in before.items()}
            before = settings.of_record(before)
        except ConfigError as error:
            raise CheckpointError(f"{self.record}: {error}; use --overwrite") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{self.record}: is damaged; use --overwrite to train again"
            ) from error
        now = settings.to_dict()
        # A test file that was not scored has had no part in the run.
        free = _FREE if record.get("test") is not None else (*_FREE, ("data", "test"))
        for section, key in free:
            before.get(section, {}).pop(key, None)
            now.get(section, {}).pop(key, None)
        for section, kept in before.items():
            for key, earlier in kept.items():
                value = now.get(section, {}).get(key, ...)
                if not same_settings(earlier, value):
                    told = "which this version does not know" if value is ... else f"not {value!r}"
                    raise CheckpointError(
                        f"{self.path}: the finished run had {section}.{key} = {earlier!r}, {told}; "
                        f"use --overwrite or another {self.setting}"
                    )
        return record

    def remove_run(self) -> None:
        """Only what a run writes: the folder may hold other things of its owner.

        The record goes first: it says that all else is there.
        """
        self.record.unlink(missing_ok=True)
        for folder in (self.model, self.checkpoints, self.path / "tensorboard", self.prepared,
                       self.soft):  # fmt: skip
            shutil.rmtree(folder, ignore_errors=True)
        files = [
            self.log,
            self.path / "plan.json",
            self.predictions("dev"),
            self.predictions("test"),
        ]
        for file in files:
            file.unlink(missing_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a kill left half-written: everything is written under a name like these."""
        for pattern in (
            "prepared/.*",
            ".model-*",
            ".record.json.*",
            ".*.predictions.jsonl.*.part",
            "log.draft",
        ):
            for draft in self.path.glob(pattern):
                shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
