"""Settings to taggers, and how they read text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nertune.config.run import Settings
from nertune.errors import ConfigError, DataError, ModelError
from nertune.labels.tagset import TagSet
from nertune.models.build import build_segmenter, build_tagger, build_tokenizer
from nertune.models.encoder import EncoderEmitter
from nertune.models.heads.crf import Crf
from nertune.models.heads.softmax import SoftmaxHead
from nertune.models.lstm import BiLstmEmitter
from nertune.tokens.tokenizer import CharTokenizer, EncoderTokenizer, Tokenizer
from nertune.types import Document

Make = Callable[..., Settings]


def vocabulary(size: int) -> CharTokenizer:
    return CharTokenizer(chr(0x4E00 + i) for i in range(size - 2))


@pytest.mark.parametrize("emitter", ["encoder", "lstm"])
@pytest.mark.parametrize("decoder", ["softmax", "crf"])
def test_emitter_and_decoder(
    emitter: str,
    decoder: str,
    settings_of: Make,
    save_encoder: Callable[..., Path],
    tagset: TagSet,
) -> None:
    encoder = str(save_encoder("bert"))
    settings = settings_of(model={"emitter": emitter, "decoder": decoder, "encoder": encoder})
    tagger = build_tagger(settings, tagset, vocabulary(30))
    assert isinstance(tagger.emitter, BiLstmEmitter if emitter == "lstm" else EncoderEmitter)
    assert isinstance(tagger.head, Crf if decoder == "crf" else SoftmaxHead)
    assert tagger.head.chain().tagset is tagset
    assert next(tagger.parameters()).device.type == "cpu"


def test_a_trained_head_does_not_stay_under_other_names(
    settings_of: Make, make_model: Callable[..., Any], tmp_path: Path
) -> None:
    """Of the same size, so that nothing else would tell: what found persons would find plants."""
    tags = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    model = make_model("bert", id2label=dict(enumerate(tags)))
    torch.nn.init.constant_(model.classifier.weight, 100.0)
    model.save_pretrained(tmp_path / "m")
    settings = settings_of(model={"encoder": str(tmp_path / "m")})
    for labels, kept in (
        ("LOC PLANT", [0, 1, 2]),
        ("PER PLANT", [0, 1, 2]),
        ("LOC ANT", [0, 3, 4]),
    ):
        tagger = build_tagger(settings, TagSet.from_labels(labels.split()), vocabulary(30))
        assert isinstance(tagger.emitter, EncoderEmitter)
        weight_KD = tagger.emitter.model.classifier.weight
        assert [i for i in range(5) if bool((weight_KD[i] == 100).all())] == kept


def test_the_lstm_has_the_shape_that_was_asked_for(settings_of: Make, tagset: TagSet) -> None:
    shape = {"embedding_size": 7, "hidden_size": 5, "layers": 3, "dropout": 0.25, "unknown": 0.5}
    settings = settings_of(model={"emitter": "lstm"}, lstm=shape)
    emitter = build_tagger(settings, tagset, vocabulary(30)).emitter
    assert isinstance(emitter, BiLstmEmitter)
    assert emitter.embedding.weight.shape == (30, 7)
    assert emitter.classifier.weight.shape == (len(tagset), 10)
    assert len(emitter.forwards) == len(emitter.backwards) == 3
    assert (emitter.dropout.p, emitter.unknown) == (0.25, 0.5)


@pytest.mark.parametrize("tuning", ["full", "frozen", "lora"])
def test_tuning(
    tuning: str, settings_of: Make, save_encoder: Callable[..., Path], tagset: TagSet
) -> None:
    model = {"encoder": str(save_encoder("bert")), "tuning": tuning, "decoder": "crf"}
    tagger = build_tagger(settings_of(model=model), tagset, vocabulary(30))
    learning = {n for n, p in tagger.named_parameters() if p.requires_grad}
    assert {n for n in learning if n.startswith("head.")} == {
        "head.start_K", "head.transition_KK", "head.end_K"
    }  # fmt: skip
    assert any("classifier" in name for name in learning)
    assert any("lora_" in name for name in learning) == (tuning == "lora")
    assert any("word_embeddings" in name for name in learning) == (tuning == "full")


def test_the_seed_decides_new_weights(settings_of: Make, tagset: TagSet) -> None:
    def built(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        settings = settings_of(model={"tuning": "lora", "decoder": "crf"})
        return list(build_tagger(settings, tagset, vocabulary(30)).parameters())

    first, again, other = built(1), built(1), built(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(
    settings_of: Make, save_encoder: Callable[..., Path], tagset: TagSet
) -> None:
    settings = settings_of(model={"encoder": str(save_encoder("bert"))})
    build_tagger(settings, tagset, vocabulary(40))
    with pytest.raises(ModelError, match=r"tokenizer has 41 ids but the model 40 embeddings"):
        build_tagger(settings, tagset, vocabulary(41))


# -- tokenizers --------------------------------------------------------------------------------


def test_the_lstms_vocabulary(settings_of: Make, tmp_path: Path) -> None:
    documents = (Document("北京北"), Document("京a"))
    lstm: dict[str, Any] = {"emitter": "lstm"}
    plain = build_tokenizer(settings_of(model=lstm), documents, "char")
    assert isinstance(plain, CharTokenizer)
    assert plain.characters[3:] == ("京", "北", "a")
    rare = build_tokenizer(settings_of(model=lstm, lstm={"min_count": 2}), documents, "char")
    assert isinstance(rare, CharTokenizer)
    assert rare.characters[3:] == ("京", "北")
    (tmp_path / "chars.txt").write_text("上\n海\n")
    given = settings_of(model=lstm, lstm={"chars": str(tmp_path / "chars.txt")})
    read = build_tokenizer(given, documents, "char")
    assert isinstance(read, CharTokenizer)
    assert read.characters[2:] == ("上", "海")
    with pytest.raises(DataError, match="cannot read the vocabulary"):
        build_tokenizer(settings_of(model=lstm, lstm={"chars": "nowhere.txt"}), documents, "char")


def test_the_encoders_tokenizer(settings_of: Make) -> None:
    tokenizer = build_tokenizer(settings_of(), (), "char")
    assert isinstance(tokenizer, EncoderTokenizer)
    assert tokenizer.name == "mini-zh"


# -- windows -----------------------------------------------------------------------------------


class Stated(EncoderTokenizer):
    """A tokenizer whose authors state a longest input."""

    def __init__(self, max_pieces: int | None):
        self._max_pieces, self._prefix, self._suffix = max_pieces, [1], [2]

    @property
    def max_pieces(self) -> int | None:
        return self._max_pieces


@pytest.fixture
def tagger_of(
    settings_of: Make, save_encoder: Callable[..., Path], tagset: TagSet
) -> Callable[..., Any]:
    def make(family: str, **changes: Any) -> Any:
        model = {"encoder": str(save_encoder(family, **changes)), "tuning": "lora"}
        settings = settings_of(model=model, lora={"targets": ["intermediate"]})
        return build_tagger(settings, tagset, vocabulary(30))

    return make


@pytest.mark.parametrize(
    ("family", "positions", "stated", "expected"),
    [
        ("bert", 24, None, 24),
        ("bert", 24, 20, 20),
        ("bert", 24, 10**6, 24),
        ("roberta", 24, None, 22),
        ("mpnet", 24, None, 22),
        ("bert", 1000, None, 512),  # longer ones cost memory; who wants them says so
        ("bert", 1000, 900, 512),
        ("modernbert", 8192, None, 512),
    ],
)
def test_the_default_window_is_what_the_encoder_allows(
    family: str,
    positions: int,
    stated: int | None,
    expected: int,
    tagger_of: Callable[..., Any],
) -> None:
    tagger = tagger_of(family, max_position_embeddings=positions)
    segmenter = build_segmenter(tagger, Stated(stated), "char")
    assert (segmenter.max_pieces, segmenter.stride) == (expected, (expected - 2) // 4)
    # And the encoder can indeed read it.
    ids_BL = torch.full((1, expected), 5)
    assert tagger.emitter(ids_BL, torch.ones_like(ids_BL)).shape == (1, expected, 5)


def test_windows_as_asked_for(tagger_of: Callable[..., Any]) -> None:
    tagger = tagger_of("bert")
    tokenizer = Stated(10)
    asked = build_segmenter(tagger, tokenizer, "word", max_pieces=24, stride=3)
    assert (asked.unit, asked.max_pieces, asked.stride) == ("word", 24, 3)
    assert build_segmenter(tagger, tokenizer, "word", max_pieces=12, stride=0).stride == 0
    with pytest.raises(
        ConfigError, match=r"model\.max_pieces: 25, but the encoder has 24 positions"
    ):
        build_segmenter(tagger, tokenizer, "word", max_pieces=25)
    roberta = tagger_of("roberta")
    with pytest.raises(ConfigError, match="the encoder has 22 positions"):
        build_segmenter(roberta, tokenizer, "word", max_pieces=23)


@pytest.mark.parametrize(
    ("max_pieces", "stride"), [(2, -1), (1, -1), (2, 0), (12, 10), (12, 11), (0, 22)]
)
def test_windows_without_room(max_pieces: int, stride: int, tagger_of: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"model\.max_pieces = .*leaves no room"):
        build_segmenter(
            tagger_of("bert"), Stated(None), "char", max_pieces=max_pieces, stride=stride
        )


def test_the_lstm_reads_any_window(settings_of: Make, tagset: TagSet) -> None:
    tokenizer: Tokenizer = vocabulary(30)
    tagger = build_tagger(settings_of(model={"emitter": "lstm"}), tagset, tokenizer)
    segmenter = build_segmenter(tagger, tokenizer, "char")
    assert (segmenter.max_pieces, segmenter.stride) == (512, 128)
    assert build_segmenter(tagger, tokenizer, "char", max_pieces=5000).max_pieces == 5000
