"""Tag documents with many models at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from nertune.artifacts.manifest import own_folder
from nertune.artifacts.parts import part_folder
from nertune.errors import ModelError, NertuneError
from nertune.inference.combination import combine_answers
from nertune.inference.mixed.batches import Answer, Job, Run, as_ours, decode_jobs
from nertune.inference.mixed.cuts import Cuts
from nertune.inference.mixed.models import Joined, Mixed, Model, Own, Reader, ServedModel
from nertune.inference.mixed.slots import OwnModels, Slots
from nertune.models.device import choose_device
from nertune.models.graphs.onnx import Backend
from nertune.types import Document

__all__ = ["MultiPredictor"]

_CHUNK_DOCUMENTS = 512  # that are sorted by length and decoded together


class MultiPredictor:
    """Tags each document with the model that is asked for; models on one encoder share batches.

    A row of a batch may belong to any LoRA, rsLoRA or AdaLoRA adapter of the base encoder, whatever
    its rank, targets, layers, labels and decoder, or to a model that trained its head alone. All
    others (DoRA, IA³ and the rest, full models, other base encoders, LSTMs) compute in batches of
    their own. `describe` says which it is, and why. An extended model (`nertune extend`) tags with
    one part after the other, so that each batch is what it would be without the later parts.
    Threads may share it.

    Args:
        reader: reads models.
        num_slots: models in memory at once, at most; so many again of those on their own.

    Example:
        >>> models = {"news": "runs/news/model", "law": "runs/law/model"}      # doctest: +SKIP
        >>> served = MultiPredictor.load(None, models)                        # doctest: +SKIP
        >>> served.tag([Document("我在北京。"), Document("甲方败诉。")], ["news", "law"])
        ... # doctest: +SKIP
    """

    def __init__(self, reader: Reader, num_slots: int):
        if num_slots < 1:
            raise ModelError(f"slots = {num_slots}: expected 1 or more")
        self._reader = reader
        self._num_slots = num_slots
        self._models: dict[str, Model] = {}
        # Those of later parts have slots of their own: the shape of a stack, and with it the last
        # bit of a score, depends on all that is in it.
        self._slots: list[Slots] = []
        self._own = OwnModels(num_slots)
        self._cuts = Cuts()
        self._adding = threading.RLock()

    @classmethod
    def load(
        cls,
        encoder: str | Path | None,
        models: Mapping[str, str | Path],
        *,
        device: str = "auto",
        backend: Backend = "torch",
        slots: int = 16,
    ) -> MultiPredictor:
        """Load models by the names under which they will be asked for.

        Args:
            encoder: the base encoder; `None` takes that of the first adapter.
            models: name -> folder, or what else `Predictor.load` takes; the first is the default.
            device: `"auto"` takes a GPU where there is one.
            backend: what computes the logits.
            slots: models that share batches in memory at once, at most, and so many of the others;
                the rest wait on disk.

        Raises:
            ModelError: a model or the encoder cannot be loaded.
            ArtifactError: a folder is damaged.
        """
        where = "cpu" if backend != "torch" and device == "auto" else device
        name = None if encoder is None else str(encoder)
        served = cls(Reader(name, choose_device(where), backend), slots)
        # An adapter says which encoder batches share.
        adapters_first = sorted(models, key=lambda name: not _is_adapter(str(models[name])))
        for name in adapters_first:
            served.add(name, models[name])
        served._models = {name: served._models[name] for name in models}
        return served

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models; the first is the default."""
        return tuple(self._models)

    def describe(self, name: str) -> ServedModel:
        """What a model is.

        Raises:
            ModelError: there is none of that name.
        """
        return self._find(name).served

    def add(self, name: str, folder: str | Path) -> None:
        """Load a model; one of the same name is replaced once that worked.

        Args:
            name: by which it will be asked for.
            folder: of the model, or what else `Predictor.load` takes.

        Raises:
            ModelError: it cannot be loaded.
            ArtifactError: its folder is damaged, or its base encoder is another one.
        """
        with self._adding:
            model = self._reader.read(name, str(folder))
            for depth, part in enumerate(_parts(model)):
                self._load(part, depth)
            before = self._models.get(name)
            self._models = {**self._models, name: model}
            if before is not None:
                self._forget(before)

    def _load(self, model: Mixed | Own, depth: int) -> None:
        if isinstance(model, Own):
            self._own.get(model)
            return
        assert self._reader.base is not None
        while len(self._slots) <= depth:
            self._slots.append(Slots(self._num_slots, self._reader.base.device))
        with self._slots[depth].hold([model]) as held:
            for error in held.failed.values():
                raise error

    def remove(self, name: str) -> None:
        """Take a model out; a batch that uses it is finished.

        Raises:
            ModelError: there is none of that name.
        """
        with self._adding:
            model = self._find(name)
            self._models = {n: m for n, m in self._models.items() if n != name}
            self._forget(model)

    def count_tokens(self, document: Document, name: str) -> int:
        """The tokens of a document's windows, special ones counted: what tagging it costs.

        Raises:
            ModelError: there is no model of that name.
            NertuneError: the document cannot be read.
        """
        return sum(
            len(window.piece_ids)
            for part in _parts(self._find(name))
            for window in self._cuts.make(part, document)[1]
        )

    def tag(
        self, documents: Sequence[Document], names: Sequence[str] | str
    ) -> list[Document | NertuneError]:
        """Tag documents, each with its own model; their own entities are replaced.

        Args:
            documents: to be tagged.
            names: the model of each, or of all.

        Returns:
            For each document, in order, the tagged one, or the error because of which it is not;
            the others are tagged all the same.

        Raises:
            ValueError: there are not as many names as documents.
        """
        asked = [names] * len(documents) if isinstance(names, str) else list(names)
        if len(asked) != len(documents):
            raise ValueError(f"got {len(asked)} names of models for {len(documents)} documents")
        answers: list[Answer] = []
        for start in range(0, len(documents), _CHUNK_DOCUMENTS):
            end = start + _CHUNK_DOCUMENTS
            answers += self._tag_chunk(documents[start:end], asked[start:end])
        return answers

    def _tag_chunk(self, documents: Sequence[Document], names: Sequence[str]) -> list[Answer]:
        models: list[Model] = []
        answers: list[Answer] = []
        known: list[int] = []
        for i, (document, name) in enumerate(zip(documents, names, strict=True)):
            answers.append(document)
            try:
                models.append(self._find(name))
                known.append(i)
            except NertuneError as error:
                answers[i] = error
        found = dict(zip(known, models, strict=True))
        depth = 0
        while rows := [i for i, model in found.items() if len(_parts(model)) > depth]:
            parts = [_parts(found[i])[depth] for i in rows]
            tagged = self._tag_parts([documents[i] for i in rows], parts, depth)
            for i, one in zip(rows, tagged, strict=True):
                answers[i] = _join(answers[i], one, found[i], depth)
            depth += 1
        return answers

    def _tag_parts(
        self, documents: Sequence[Document], models: Sequence[Mixed | Own], depth: int
    ) -> list[Answer]:
        answers: dict[int, Answer] = {}
        of_own: dict[Own, list[int]] = {}
        jobs: list[Job] = []
        for i, (document, model) in enumerate(zip(documents, models, strict=True)):
            if isinstance(model, Own):
                of_own.setdefault(model, []).append(i)
                continue
            try:
                jobs.append(Job(i, document, model, *self._cuts.take(model, document)))
            except NertuneError as error:
                answers[i] = error
        for own, indices in of_own.items():
            found = self._tag_own(own, [documents[i] for i in indices])
            answers.update(zip(indices, found, strict=True))
        if jobs:
            answers.update(self._tag_mixed(jobs, self._slots[depth]))
        return [answers[i] for i in range(len(documents))]

    def _find(self, name: str) -> Model:
        models = self._models  # a change makes a new one
        if name not in models:
            known = ", ".join(models) or "none"
            raise ModelError(f"no model is named {name!r}; there are {known}")
        return models[name]

    def _forget(self, model: Model) -> None:
        for depth, part in enumerate(_parts(model)):
            if isinstance(part, Own):
                self._own.forget(part)
            else:
                self._slots[depth].forget(part)

    def _tag_own(self, model: Own, documents: list[Document]) -> list[Answer]:
        """With a model that computes on its own; one by one if something fails."""
        try:
            predictor = self._own.get(model)
        except NertuneError as error:
            return [error] * len(documents)
        try:
            return [*predictor.tag_documents(documents)]
        except Exception as error:
            if len(documents) == 1:
                return [as_ours(error, model)]
        return [self._tag_own(model, [document])[0] for document in documents]

    def _tag_mixed(self, jobs: list[Job], slots: Slots) -> dict[int, Answer]:
        """With models that share batches, as many at a time as fit in memory."""
        base = self._reader.base
        assert base is not None
        models = list(dict.fromkeys(job.model for job in jobs))
        models.sort(key=lambda model: model not in slots)  # those in memory come first
        for start in range(0, len(models), self._num_slots):
            chosen = set(models[start : start + self._num_slots])
            Run(slots, base, self._reader.pad_id or 0).emit([j for j in jobs if j.model in chosen])
        return dict(decode_jobs(jobs))


def _parts(model: Model) -> tuple[Mixed | Own, ...]:
    return model.parts if isinstance(model, Joined) else (model,)


def _join(before: Answer, found: Answer, model: Model, depth: int) -> Answer:
    """What all parts up to this one found; an error of one is the answer."""
    if not depth or isinstance(before, NertuneError) or isinstance(found, NertuneError):
        return before if depth and isinstance(before, NertuneError) else found
    assert isinstance(model, Joined)
    return combine_answers([before, found], [model.overlaps[depth - 1]])


def _is_adapter(model: str) -> bool:
    folder = own_folder(model)
    if folder is None:
        return False
    return any((folder / part / "adapter_config.json").is_file() for part in ("", part_folder(0)))
