"""Checkpoints: everything that a run needs to go on as if nothing had happened.

A checkpoint is a folder of safetensors files, `state.json`, and `sha256.json` over all of them,
written under a temporary name, flushed to disk and renamed, so it is there whole or not at all. An
older one goes only when the newer one is in its place. No pickle.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nertune.config.run import flat_settings_of_record, same_settings
from nertune.errors import CheckpointError
from nertune.storage.atomic import flush
from nertune.storage.files import hash_file

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "CheckpointTimer",
    "Checkpoints",
    "optimizer_tensors",
    "refuse_other_run",
    "restore_optimizer",
    "restore_weights",
]

_LOG = logging.getLogger("nertune")
_TENSOR_FILES = ("weights", "best", "optimizer", "rng")
_STATE, _DIGESTS = "state.json", "sha256.json"
_OLD_NAME = re.compile(r"(^|/)decoder\.(start_K|transition_KK|end_K)$")  # of version 0.1.0
# Part of earlier versions' fingerprints, but without a part in the weights.
_FREE = frozenset({"data.test", "train.checkpoint_minutes", "train.checkpoint_steps"})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is kept.

    Attributes:
        step: optimizer steps done.
        state: JSON values: epoch, losses, history, …
        weights: the trainable parameters.
        best: those of the best epoch so far; may be empty.
        optimizer: from `optimizer_tensors`.
        rng: states of the random generators, uint8.
    """

    step: int
    state: dict[str, Any]
    weights: dict[str, Tensor]
    best: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    rng: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class _BestFile:
    """The file of the best weights in the newest checkpoint, which the next one may take over."""

    weights: dict[str, Tensor]
    path: Path
    digest: str


class CheckpointStore:
    """The checkpoints of one run; keeps the newest.

    The file of the best weights is written only when another mapping is saved than before (or than
    was read by `latest`): the mapping must not be changed in place.

    Args:
        folder: made when the first one is saved.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._best: _BestFile | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove older ones."""
        draft = self.folder / f".draft-{os.getpid()}"
        self._sweep()
        draft.mkdir(parents=True)
        digests: dict[str, str] = {}
        for name in _TENSOR_FILES:
            path = draft / f"{name}.safetensors"
            if name == "best" and (kept := self._take_over(checkpoint.best, path)):
                digests[path.name] = kept
                continue
            tensors = {
                k: t.detach().cpu().contiguous() for k, t in getattr(checkpoint, name).items()
            }
            save_file(tensors, path)
            digests[path.name] = hash_file(path)
        state = {"step": checkpoint.step, "state": checkpoint.state}
        (draft / _STATE).write_text(json.dumps(state), encoding="utf-8")
        digests[_STATE] = hash_file(draft / _STATE)
        (draft / _DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
        for path in draft.iterdir():
            flush(path)
        final = self._free_name(checkpoint.step)
        draft.rename(final)
        flush(self.folder)
        self._remember(checkpoint.best, final, digests)
        for older in self._all():
            if older != final:
                shutil.rmtree(older)

    def _take_over(self, best: dict[str, Tensor], path: Path) -> str:
        """Have the newest checkpoint's best weights under another path too; returns their digest.

        Empty if they are other ones, or cannot be had.
        """
        if self._best is None or self._best.weights is not best:
            return ""
        try:
            os.link(self._best.path, path)
        except OSError:  # a file system without hard links
            try:
                shutil.copyfile(self._best.path, path)
            except OSError:
                path.unlink(missing_ok=True)
                return ""
        return self._best.digest

    def _remember(self, best: dict[str, Tensor], folder: Path, digests: Mapping[str, str]) -> None:
        name = "best.safetensors"
        self._best = _BestFile(best, folder / name, digests[name])

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, if there is any.

        Raises:
            CheckpointError: there are only damaged ones.
        """
        first_error = None
        for path in reversed(self._all()):
            try:
                found, digests = self._read(path)
            except CheckpointError as error:
                first_error = first_error or error
                continue
            if first_error is not None:
                _LOG.warning("%s; going on with the one before, %s", first_error, path.name)
            self._remember(found.best, path, digests)
            return found
        if first_error is not None:
            raise first_error
        return None

    def _read(self, path: Path) -> tuple[Checkpoint, dict[str, str]]:
        """A checkpoint and the digests of its files.

        Raises:
            CheckpointError: it is damaged.
        """
        try:
            digests = json.loads((path / _DIGESTS).read_text(encoding="utf-8"))
            for file in (_STATE, *(f"{name}.safetensors" for name in _TENSOR_FILES)):
                if hash_file(path / file) != digests[file]:
                    raise CheckpointError(
                        f"{path / file}: is not what was saved (its sha256 differs); {_ADVICE}"
                    )
            header = json.loads((path / _STATE).read_text(encoding="utf-8"))
            files = {name: path / f"{name}.safetensors" for name in _TENSOR_FILES}
            tensors = {name: _rename(load_file(file)) for name, file in files.items()}
            found = Checkpoint(step=header["step"], state=header["state"], **tensors)
            return found, digests
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(
                f"{path}: the checkpoint is damaged ({error}); {_ADVICE}"
            ) from error

    def clear(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _all(self) -> list[Path]:
        """All checkpoints, the newest last."""
        found = self.folder.glob("step-*") if self.folder.is_dir() else []
        return sorted(found, key=_age)

    def _free_name(self, step: int) -> Path:
        """Another one than a resumed run has left that comes by the same step again."""
        final = self.folder / f"step-{step:09d}"
        again = 1
        while final.exists():
            again += 1
            final = self.folder / f"step-{step:09d}-{again}"
        return final

    def _sweep(self) -> None:
        for draft in self.folder.glob(".draft-*"):
            shutil.rmtree(draft)


def _rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give what an older version saved its present name."""
    return {_OLD_NAME.sub(r"\1head.\2", name): tensor for name, tensor in tensors.items()}


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a run keeps its checkpoints.

    Attributes:
        store: the folder.
        fingerprint: what a checkpoint must share with the run that resumes it.
        resume: whether to continue from the newest one, if there is one.
        clock: gives the seconds by which checkpoints are due.
    """

    store: CheckpointStore
    fingerprint: Mapping[str, Any] | None = None
    resume: bool = False
    clock: Callable[[], float] = time.monotonic


class CheckpointTimer:
    """Says when a checkpoint is due: every so many steps, by the clock, or both.

    Args:
        steps: 0: by the clock alone.
        minutes: 0: by steps alone.
        clock: gives seconds.
    """

    def __init__(self, steps: int, minutes: float, clock: Callable[[], float] = time.monotonic):
        self._steps, self._minutes, self._clock = steps, minutes, clock
        self._saved_at = clock()

    def is_due(self, step: int) -> bool:
        """Whether to write one behind this step."""
        if self._steps and step % self._steps == 0:
            return True
        return self._minutes > 0 and self._clock() - self._saved_at >= 60 * self._minutes

    def restart(self) -> None:
        """One was written."""
        self._saved_at = self._clock()


def _age(path: Path) -> list[int]:
    """By which checkpoints are put in order: step, and how often it was come by."""
    parts = path.name.removeprefix("step-").split("-")
    return [int(part) if part.isdecimal() else -1 for part in parts]


_ADVICE = "start again with --overwrite (compare: --fresh)"


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """An optimizer's state as named tensors, e.g. `exp_avg/emitter.model.classifier.weight`."""
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{key}/{names[index]}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in state.items()
        for key, value in values.items()
        if value is not None
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: list[str], tensors: Mapping[str, Tensor]
) -> None:
    """Put named tensors back; the inverse of `optimizer_tensors`.

    Raises:
        CheckpointError: they are of other parameters.
    """
    index = {name: i for i, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    for full_name, value in tensors.items():
        key, _, name = full_name.partition("/")
        if name not in index:
            raise CheckpointError(f"the checkpoint is of another model: it has {name!r}")
        state.setdefault(index[name], {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def refuse_other_run(
    checkpoint: Checkpoint,
    fingerprint: Mapping[str, Any] | None,
    *,
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Compare the fingerprint in a checkpoint's state with that of the run which resumes.

    Args:
        checkpoint: of any version: settings that it lacks count as their defaults.
        fingerprint: of the run which resumes.
        defaults: of settings that have no section.

    Raises:
        CheckpointError: they differ; names the first key.
    """
    kept, now = checkpoint.state["fingerprint"] or {}, fingerprint or {}
    before = {**(defaults or {}), **flat_settings_of_record(kept)}
    for key in [*now, *(key for key in before if key in kept and key not in now)]:
        if key not in _FREE and not same_settings(before.get(key), now.get(key)):
            raise CheckpointError(
                f"cannot resume: {key} was {before.get(key)!r} and is {now.get(key)!r} now; resume "
                f"with the same settings, or {_ADVICE}"
            )


def restore_weights(checkpoint: Checkpoint, parameters: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint's weights into the trainable parameters of the same names.

    Raises:
        CheckpointError: the names differ.
    """
    if set(checkpoint.weights) != set(parameters):
        raise CheckpointError(f"the checkpoint is of another model; {_ADVICE}")
    with torch.no_grad():
        for name, tensor in checkpoint.weights.items():
            parameters[name].copy_(tensor)
