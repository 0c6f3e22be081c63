"""The teachers: one tagger or several, asked for what they say of text in a student's terms.

Axes: U units, K tags.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from nertune.artifacts.manifest import hash_encoder, own_folder, read_manifest
from nertune.config.run import nearest
from nertune.errors import ConfigError, NotFiniteError
from nertune.inference.predictor import Predictor
from nertune.labels.align import spans_to_entities
from nertune.labels.tagset import TagSet
from nertune.models.heads.marginals import Marginals, likeliest_tags, mean_marginals
from nertune.semisupervised.distillation.conversion import Conversion
from nertune.types import Document

__all__ = ["Teacher", "Teachers", "load_teachers"]

_LOG = logging.getLogger("nertune")
_CHUNK_DOCUMENTS = 64


@dataclass(frozen=True, slots=True)
class Teacher:
    """One of the teachers.

    Attributes:
        name: as it was given.
        predictor: it, loaded.
        sha256: of what it is.
        renamed: its labels -> the student's, of those that are renamed or dropped (empty).
    """

    name: str
    predictor: Predictor
    sha256: str
    renamed: Mapping[str, str]

    @property
    def labels(self) -> set[str]:
        """What it knows, in the student's words."""
        return {self.renamed.get(label, label) for label in self.predictor.labels} - {""}

    def tag(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Its own answers, in the student's labels."""
        for document in self.predictor.tag_documents(documents, with_scores=False):
            named = [(e, self.renamed.get(e.label, e.label)) for e in document.entities]
            yield document.with_entities(replace(e, label=label) for e, label in named if label)

    def conversion(self, tagset: TagSet, temperature: float) -> Conversion:
        """How what it says becomes the student's.

        The temperature that the teacher was calibrated with, if it was, comes on top.
        """
        head: Any = self.predictor.tagger.head
        own = self.predictor.calibration.temperature
        return Conversion(head.chain(), tagset, self.renamed, temperature * own)


@dataclass(frozen=True, slots=True)
class Teachers:
    """All teachers; what they say together is the mean of what each says."""

    each: tuple[Teacher, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """What any of them knows, in the student's words."""
        return tuple(sorted(set().union(*(teacher.labels for teacher in self.each))))

    def check(self, labels: Iterable[str], wanted: Iterable[str] = ()) -> None:
        """Refuse teachers that would teach something wrong about a label.

        Args:
            labels: all that the student is to know.
            wanted: those of them that the table names.

        Raises:
            ConfigError: a teacher lacks one, so it would teach that there is none of it; or knows
                another, which the student's gold calls nothing.
        """
        known = {*labels, *wanted}
        for teacher in self.each:
            if missing := sorted(known - teacher.labels):
                raise ConfigError(
                    f"{teacher.name} does not know {', '.join(missing)}, so it would teach that "
                    "there is none in the unlabelled text: leave this teacher out, or rename a "
                    f"label of its own with --map TEACHERLABEL={missing[0]} (it has "
                    f"{', '.join(teacher.predictor.labels)})"
                )
            if others := sorted(teacher.labels - known):
                one = others[0]
                raise ConfigError(
                    f"{teacher.name} knows {', '.join(others)}, which the student's training data "
                    f"do not have: --map {one}= drops it, --map {one}={one} has the student learn "
                    f"it, --map {one}=LABEL renames it (the student has "
                    f"{', '.join(sorted(known)) or 'none'})"
                )

    def say(
        self,
        documents: Sequence[Document],
        units: Sequence[Sequence[tuple[int, int]]],
        conversions: Sequence[Conversion],
    ) -> list[Marginals]:
        """The mean marginals of documents.

        Args:
            documents: some.
            units: the student's, of each.
            conversions: of each teacher (`Teacher.conversion`).

        Raises:
            NotFiniteError: a teacher gives NaN or infinity.
        """
        said: list[list[Marginals]] = []
        for teacher, conversion in zip(self.each, conversions, strict=True):
            encodings, emissions = teacher.predictor.emissions(documents)
            try:
                said.append(conversion.convert(emissions, [e.units for e in encodings], units))
            except ValueError as error:
                raise NotFiniteError(f"{teacher.name}: {error}; use another teacher") from error
        return [mean_marginals(of_document) for of_document in zip(*said, strict=True)]

    def tag(self, documents: Iterable[Document], tagset: TagSet) -> Iterator[Document]:
        """Tag documents as all teachers together, in the units of the first one.

        One teacher gives its own answer, in the student's labels. Of several, the tags are the
        likeliest sequence of the Markov chain that has their mean marginals of units and pairs.
        """
        if len(self.each) == 1:
            yield from self.each[0].tag(documents)
            return
        segmenter = self.each[0].predictor.segmenter
        conversions = [teacher.conversion(tagset, 1.0) for teacher in self.each]
        iterator = iter(documents)
        while chunk := list(islice(iterator, _CHUNK_DOCUMENTS)):
            units = [segmenter.segment(document)[0].units for document in chunk]
            said = self.say(chunk, units, conversions)
            for document, marginals, spans in zip(chunk, said, units, strict=True):
                found = tagset.decode(likeliest_tags(marginals))
                yield document.with_entities(spans_to_entities(found, spans, None))


def load_teachers(
    names: Sequence[str], table: Mapping[str, str], *, device: str = "auto"
) -> Teachers:
    """Load teachers and see what they know.

    Args:
        names: folders or hub names.
        table: labels of teachers -> the student's; empty drops one.
        device: where they compute.

    Raises:
        ConfigError: there is none, one is given twice, one has a head without tag sequences, or the
            table names a label that no teacher has.
        ModelError: one cannot be loaded.
    """
    if not names:
        raise ConfigError("distill needs a teacher: --teacher DIR, repeatable")
    hashes: dict[str, str] = {}
    each = []
    for name in names:
        predictor = Predictor.load(name, device=device)
        sha256 = _hash(name)
        if sha256 in hashes:
            raise ConfigError(f"--teacher {name} is the same model as {hashes[sha256]}")
        hashes[sha256] = name
        if not hasattr(predictor.tagger.head, "chain"):
            raise ConfigError(
                f"{name}: its head {type(predictor.tagger.head).__name__} gives no distribution "
                "over tag sequences, so it cannot teach; use a softmax or CRF model"
            )
        renamed = {label: table[label] for label in predictor.labels if label in table}
        each.append(Teacher(name, predictor, sha256, renamed))
        _LOG.info("teacher %s: %s", name, ", ".join(predictor.labels))
    known = {label for teacher in each for label in teacher.predictor.labels}
    for label in table:
        if label not in known:
            hint = nearest(label, sorted(known)) or f"; there are {', '.join(sorted(known))}"
            raise ConfigError(
                f"--map {label}={table[label]}: no teacher has the label {label!r}{hint}"
            )
    return Teachers(tuple(each))


def _hash(name: str) -> str:
    """Of all that decides what a teacher says."""
    folder = own_folder(name)
    if folder is None:
        return hash_encoder(name)
    manifest = read_manifest(folder)
    digest = hashlib.sha256()
    for file, found in sorted(manifest.files.items()):
        if Path(file).suffix != ".md":
            digest.update(f"{file} {found}\n".encode())
    digest.update(manifest.encoder_sha256.encode())
    if manifest.calibration is not None:
        digest.update(f" {manifest.calibration.temperature!r}".encode())
    return digest.hexdigest()
