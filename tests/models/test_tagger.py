"""Emitter and decoder together: losses that can be compared, and long documents merged."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nertune.inference.predictor import Predictor
from nertune.labels.align import UNKNOWN, continuation_ids
from nertune.labels.tagset import TagSet
from nertune.models.heads.crf import Crf
from nertune.models.heads.softmax import SoftmaxHead
from nertune.models.lstm import BiLstmEmitter
from nertune.models.tagger import Tagger
from nertune.tokens.batching import collate
from nertune.tokens.tokenizer import CharTokenizer, load_tokenizer
from nertune.tokens.windows import Segmenter
from nertune.training.examples import prepare_examples
from nertune.types import Document, Entity

TAGS = TagSet.from_labels(["LOC", "PER"])
TEXT = "王小明1998年去了New York，见到了John Smith。"


class LookUp(nn.Module):
    """An emitter without any context: a piece's emissions are its row of a table."""

    def __init__(self, vocabulary_size: int, num_tags: int):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        table = 2 * torch.randn(vocabulary_size, num_tags, generator=generator)
        self.table = nn.Embedding.from_pretrained(table)

    def forward(self, piece_ids_BL: Tensor, attention_BL: Tensor) -> Tensor:
        rows_BLK: Tensor = self.table(piece_ids_BL)
        return rows_BLK


def decoder(name: str) -> Crf | SoftmaxHead:
    if name == "softmax":
        return SoftmaxHead(TAGS)
    crf = Crf(TAGS)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return crf


@pytest.mark.parametrize("name", ["softmax", "crf"])
@pytest.mark.parametrize("unit", ["char", "word"])
def test_windows_merge_to_what_one_window_gives(name: str, unit: str) -> None:
    """Order, ownership and merging: spans and probabilities of a text in 1 and in 60 windows."""
    tokenizer = load_tokenizer("mini-zh")
    tagger = Tagger(LookUp(tokenizer.vocabulary_size, len(TAGS)), decoder(name))
    documents = [
        Document(TEXT * 19),
        Document(""),
        Document("小明"),
        Document(" \u200b"),
        Document(TEXT[::-1] * 13),
    ]

    def tagged(max_pieces: int, stride: int, batch_tokens: int) -> list[Document]:
        segmenter = Segmenter(tokenizer, unit, max_pieces, stride)  # type: ignore[arg-type]
        windows = [len(segmenter.segment(document)[1]) for document in documents]
        assert (max(windows) > 40) == (max_pieces < 100)
        predictor = Predictor(tagger, segmenter, TAGS, batch_tokens=batch_tokens)
        return list(predictor.tag_documents(documents))

    whole = tagged(4000, 100, 4000)
    assert len(whole[0].entities) > 20
    assert len(whole[4].entities) > 20
    for cut in (tagged(16, 4, 64), tagged(13, 0, 1), tagged(20, 17, 512)):
        assert [d.text for d in cut] == [d.text for d in documents]
        for one, other in zip(whole, cut, strict=True):
            assert [e.key for e in one.entities] == [e.key for e in other.entities]
            assert [e.score for e in one.entities] == pytest.approx(
                [e.score for e in other.entities], abs=1e-9
            )


def batch_of(text: str, tokenizer: CharTokenizer, *, max_pieces: int = 6):  # type: ignore[no-untyped-def]
    document = Document(text, (Entity(0, 3, "PER"), Entity(10, 18, "LOC")))
    examples = prepare_examples(
        [document], Segmenter(tokenizer, "char", max_pieces, 2), SoftmaxHead(TAGS)
    )
    return examples, collate(examples.windows, pad_id=0, tags=examples.targets)


@pytest.mark.parametrize("name", ["softmax", "crf"])
def test_the_loss_is_a_mean_over_units(name: str) -> None:
    """Two equal batches as one have the loss of one, however many windows there are."""
    tokenizer = CharTokenizer.from_documents([Document(TEXT)])
    tagger = Tagger(LookUp(tokenizer.vocabulary_size, len(TAGS)), decoder(name))
    examples, once = batch_of(TEXT, tokenizer)
    assert once.num_units == len(TEXT)
    twice = collate(examples.windows * 2, pad_id=0, tags=examples.targets * 2)
    torch.testing.assert_close(tagger(twice), tagger(once))
    parts = [
        tagger(collate([window], pad_id=0, tags=[tags])) * window.num_units
        for window, tags in zip(examples.windows, examples.targets, strict=True)
    ]
    torch.testing.assert_close(sum(parts) / len(TEXT), tagger(once))


def test_softmax_loss_does_not_depend_on_the_windows() -> None:
    """Each unit enters once, whatever overlaps."""
    tokenizer = CharTokenizer.from_documents([Document(TEXT)])
    tagger = Tagger(LookUp(tokenizer.vocabulary_size, len(TAGS)), decoder("softmax"))
    torch.testing.assert_close(
        tagger(batch_of(TEXT, tokenizer)[1]), tagger(batch_of(TEXT, tokenizer, max_pieces=99)[1])
    )


def test_all_pieces_is_the_mean_over_pieces() -> None:
    tokenizer = load_tokenizer("mini-zh")
    tagger = Tagger(LookUp(tokenizer.vocabulary_size, len(TAGS)), decoder("softmax"))
    document = Document("77213 Liechtenstein", (Entity(6, 19, "LOC"),))
    examples = prepare_examples([document], Segmenter(tokenizer, "word", 32, 4), SoftmaxHead(TAGS))
    batch = collate(
        examples.windows,
        pad_id=0,
        tags=examples.targets,
        continuation=continuation_ids(TAGS.tags),
    )
    (window,) = examples.windows
    inside = window.piece_ids[1:-1]
    outside_tag, begin, goes_on = TAGS.encode(["O", "B-LOC", "I-LOC"])
    second = window.positions[1] - 1
    gold = [outside_tag] * second + [begin] + [goes_on] * (len(inside) - second - 1)
    assert len(gold) > 6
    expected = functional.cross_entropy(
        tagger.emitter.table(torch.tensor(inside)),  # type: ignore[operator, union-attr]
        torch.tensor(gold),
    )
    torch.testing.assert_close(tagger(batch), expected)


@pytest.mark.parametrize("name", ["softmax", "crf", "pieces"])
def test_units_without_a_tag_are_no_part_of_the_mean(name: str) -> None:
    tokenizer = CharTokenizer.from_documents([Document(TEXT)])
    tagger = Tagger(LookUp(tokenizer.vocabulary_size, len(TAGS)), decoder(name))
    continuation = continuation_ids(TAGS.tags) if name == "pieces" else None

    def loss(*documents: Document) -> Tensor:
        examples = prepare_examples(
            documents, Segmenter(tokenizer, "char", 99, 2), SoftmaxHead(TAGS)
        )
        assert any(UNKNOWN in tags for tags in examples.targets)
        found: Tensor = tagger(
            collate(examples.windows, pad_id=0, tags=examples.targets, continuation=continuation)
        )
        return found

    part = Document(TEXT, (Entity(0, 2, "PER"), Entity(1, 3, "PER")))  # which overlap
    assert loss(part) > 0
    examples = prepare_examples([part], Segmenter(tokenizer, "char", 99, 2), SoftmaxHead(TAGS))
    (row,) = examples.targets
    alone = collate(
        examples.windows, pad_id=0, tags=[[UNKNOWN] * len(row)], continuation=continuation
    )
    assert tagger(alone).item() == 0
    # Beside a text in which nothing is known, the mean stays what it is.
    both = collate(
        examples.windows * 2,
        pad_id=0,
        tags=[row, [UNKNOWN] * len(row)],
        continuation=continuation,
    )
    torch.testing.assert_close(tagger(both), loss(part))


@pytest.mark.parametrize("name", ["softmax", "crf"])
def test_emissions_do_not_depend_on_the_batch(name: str) -> None:
    tokenizer = CharTokenizer.from_documents([Document(TEXT)])
    torch.manual_seed(1)
    emitter = BiLstmEmitter(
        vocabulary_size=tokenizer.vocabulary_size,
        num_tags=len(TAGS),
        embedding_size=6,
        hidden_size=5,
    )
    tagger = Tagger(emitter, decoder(name)).eval()
    segmenter = Segmenter(tokenizer, "char", 12, 4)
    windows = segmenter.segment(Document(TEXT))[1] + segmenter.segment(Document("北京"))[1]
    together = tagger.emit(collate(windows, pad_id=0))
    assert [len(scores) for scores in together] == [window.num_units for window in windows]
    for window, scores_UK in zip(windows, together, strict=True):
        (alone_UK,) = tagger.emit(collate([window], pad_id=0))
        torch.testing.assert_close(torch.tensor(scores_UK), torch.tensor(alone_UK))


def test_a_loss_needs_gold() -> None:
    tokenizer = CharTokenizer.from_documents([Document(TEXT)])
    tagger = Tagger(LookUp(tokenizer.vocabulary_size, len(TAGS)), decoder("crf"))
    windows = Segmenter(tokenizer, "char", 12, 4).segment(Document(TEXT))[1]
    with pytest.raises(AssertionError, match="gold"):
        tagger(collate(windows, pad_id=0))
