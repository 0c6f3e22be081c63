"""The teachers' probabilities as soft targets: the student learns all that they think."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nertune.artifacts.manifest import Manifest
from nertune.data.inputs import in_batches
from nertune.inference.predictor import Predictor
from nertune.models.heads.base import Head, soft_head
from nertune.semisupervised.self_training.teachers import say_together
from nertune.tokens.windows import Segmenter
from nertune.training.soft_targets import SoftTargets
from nertune.training.stores.soft_store import SoftStore, SoftStoreWriter
from nertune.types import Document

__all__ = ["TeacherSource"]

_COMMIT_EVERY = 20  # batches of documents
_VERSION = 3  # another one makes other targets of the same text and teacher


@dataclass(frozen=True, slots=True)
class TeacherSource:
    """Documents, and the tag marginals that teachers of the same tags give their units.

    They are the teachers' own, sharper than the calibrated ones. A student learns less from flat
    targets: of 100 sentences of `peoples`, .577 with these and .544 with calibrated ones (dev
    micro-F1, one seed, first round). Entropy minimisation (Grandvalet & Bengio, 2005) says why.

    It is a `training.soft_targets.SoftSource`.

    Attributes:
        teachers: one tagger, or several, whose marginals are averaged.
        manifests: of the teachers' folders, which say which weights they have.
        chosen: the documents.
    """

    teachers: Sequence[Predictor]
    manifests: Sequence[Manifest]
    chosen: Sequence[Document]

    @property
    def key(self) -> str:
        """A hash over the documents, and the teachers' weights."""
        decisive = [_VERSION, *(manifest.files for manifest in self.manifests)]
        digest = hashlib.sha256(json.dumps(decisive).encode())
        for document in self.chosen:
            digest.update(json.dumps([document.text, document.tokens]).encode() + b"\n")
        return digest.hexdigest()

    @property
    def labels(self) -> Sequence[str]:
        """The teachers', which are those of the labelled data."""
        return self.teachers[0].labels

    def documents(self) -> Iterator[Document]:
        """The documents."""
        return iter(self.chosen)

    def prepare(self, segmenter: Segmenter, head: Head, folder: Path) -> SoftTargets:
        """Tag marginals of all documents, on the disk; what a killed process wrote is gone on with.

        Args:
            segmenter: of the student, which cuts text as the teacher does.
            head: of the student.
            folder: of the store.
        """
        if SoftStore.is_complete(folder, self.key):
            return SoftTargets(SoftStore(folder, head.tagset))
        with_pairs = soft_head(head).soft_pairs
        writer = SoftStoreWriter(folder, head.tagset, with_pairs=with_pairs, key=self.key)
        try:
            left = self.chosen[writer.num_read :]
            for number, batch in enumerate(in_batches(left), start=1):
                said = say_together(self.teachers, batch, with_pairs=with_pairs)
                for document, (encoding, marginals) in zip(batch, said, strict=True):
                    own, windows = segmenter.segment(document)
                    assert own.units == encoding.units, "teacher and student cut text alike"
                    writer.add(windows, marginals if windows else None)
                if number % _COMMIT_EVERY == 0:
                    writer.commit()
            return SoftTargets(writer.finish())
        finally:
            writer.close()

    def describe(self) -> dict[str, Any]:
        """For the record of the run."""
        files = [manifest.files for manifest in self.manifests]
        return {"documents": len(self.chosen), "teacher": files[0], "teachers": files}
