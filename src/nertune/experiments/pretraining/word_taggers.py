"""The second task of pre-training: which tagger gives the word tags, and which are of entities."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nertune.artifacts.manifest import weight_hashes
from nertune.config.pretrain import PretrainSettings
from nertune.errors import ConfigError
from nertune.inference.predictor import Predictor, load_model
from nertune.pretraining.aligned_tags import AlignedTags
from nertune.pretraining.teacher import TeacherWords
from nertune.pretraining.words import JiebaWords, WordTagger, choose_entity_tags
from nertune.types import Document

__all__ = ["TaggingTask", "build_tagging_task"]


@dataclass(frozen=True, slots=True)
class TaggingTask:
    """The second task of a run.

    Attributes:
        tagger: gives words and tags.
        entity_tags: the numbers of the tags that name entities.
    """

    tagger: WordTagger
    entity_tags: tuple[int, ...]

    def weights(self, entity_weight: float) -> list[float]:
        """The weight of each output: two a tag, for a word's first token and for its others."""
        kinds = range(len(self.tagger.tags))
        return [entity_weight if k in self.entity_tags else 1.0 for k in kinds for _ in range(2)]

    def to_dict(self) -> dict[str, Any]:
        """For the record."""
        tags = self.tagger.tags
        return {
            "tagger": self.tagger.name,
            "fingerprint": self.tagger.fingerprint,
            "tags": list(tags),
            "entity_tags": [tags[kind] for kind in self.entity_tags],
        }


def build_tagging_task(settings: PretrainSettings, files: Mapping[str, str]) -> TaggingTask | None:
    """The task that the settings name; `None` where they name no word tagger.

    Args:
        settings: `words`, `word_tags` or `teacher`, and the text.
        files: the sha256 of every file by its path.

    Raises:
        ConfigError: the tagger does not give one of `entity_tags`, or none where some are needed.
        NertuneError: the tagger cannot be loaded, or its tags do not fit the text.
    """
    tagger = _build_tagger(settings, files)
    if tagger is None:
        return None
    entity_tags = choose_entity_tags(tagger, settings.entity_tags)
    is_needed = settings.entity_mask_share > 0 or settings.entity_weight != 1
    if is_needed and not entity_tags:
        raise ConfigError(
            f"entity_tags: no tag of {tagger.name} is known to name entities; name some of "
            f"{', '.join(tagger.tags)}"
        )
    return TaggingTask(tagger, entity_tags)


def _build_tagger(settings: PretrainSettings, files: Mapping[str, str]) -> WordTagger | None:
    if settings.words == "jieba":
        return JiebaWords()
    if settings.word_tags:
        hashes = [files[str(path)] for path in settings.word_tags]
        return AlignedTags(settings.files, settings.word_tags, hashes)
    if settings.teacher:
        return _load_teacher(settings.teacher, settings.device)
    return None


def _load_teacher(name: str, device: str) -> TeacherWords:
    predictor = load_model(name, device=device, merge=True)
    tag = partial(predictor.tag_documents, with_scores=False)
    return TeacherWords(
        Path(name).name,
        _fingerprint(predictor),
        predictor.tagset.labels,
        lambda texts: tag(Document(text) for text in texts),
    )


def _fingerprint(predictor: Predictor) -> str:
    """A sha256 over everything that decides which entities it finds."""
    manifest, segmenter = predictor.manifest, predictor.segmenter
    parts = {
        "weights": _hash_weights(predictor) if manifest is None else weight_hashes(manifest),
        "tokenizer": segmenter.tokenizer.fingerprint(),
        "tags": [*predictor.tagset.tags],
        "scheme": predictor.tagset.scheme,
        "windows": [segmenter.unit, segmenter.max_pieces, segmenter.stride],
    }
    return "teacher " + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _hash_weights(predictor: Predictor) -> str:
    """A sha256 over the weights of a model that nertune did not write, however it was stored."""
    digest = hashlib.sha256()
    for key, tensor in sorted(predictor.tagger.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
