"""Tag sets: which tags may follow each other, and other people's inventories."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from nertune.labels.schemes import Scheme, TokenSpan, decode_tags
from nertune.labels.tagset import TagSet

SETS = [
    TagSet(("O", "B-A", "I-A", "B-B", "I-B"), "BIO"),
    TagSet(("I-A", "O", "B-A"), "BIO"),
    TagSet(("O", "B-A", "I-A", "E-A", "S-A"), "BIOES"),
    TagSet(("O", "B-A", "I-A", "S-A"), "BIOS"),
    TagSet(("O", "B-A", "M-A", "E-A", "S-A"), "BMES"),
    TagSet(("O", "B-A", "I-A", "L-A", "U-A"), "BILOU"),
    TagSet(("O", "I-A", "B-A", "I-B"), "IOB1"),
    TagSet(("O", "A", "B"), "IO"),
    TagSet(("O", "B_A", "I_A", "E_A", "S_A"), "BIOES"),
]


@pytest.mark.parametrize("tagset", SETS, ids=lambda t: f"{t.scheme}-{len(t)}")
def test_legal_is_what_needs_no_repair(tagset: TagSet) -> None:
    """All sequences of up to four tags: legal by the masks, or repaired by `decode_tags`."""
    for length in range(1, 5):
        for ids in product(range(len(tagset)), repeat=length):
            legal = (
                tagset.legal_start_K[ids[0]]
                and tagset.legal_end_K[ids[-1]]
                and all(tagset.legal_KK[a, b] for a, b in pairwise(ids))
            )
            tags = [tagset.tags[i] for i in ids]
            assert legal == (decode_tags(tags, tagset.scheme)[1] == []), tags


@pytest.mark.parametrize("tagset", SETS, ids=lambda t: f"{t.scheme}-{len(t)}")
def test_spell_gives_all_ways_to_name_a_span(tagset: TagSet) -> None:
    """Against the tags of the span in every legal sequence that holds it."""
    for label, width in product(tagset.labels, (1, 2, 3)):
        seen = set()
        for ids in product(range(len(tagset)), repeat=width + 2):
            legal = tagset.legal_start_K[ids[0]] and tagset.legal_end_K[ids[-1]]
            legal = legal and all(tagset.legal_KK[a, b] for a, b in pairwise(ids))
            if legal and TokenSpan(1, 1 + width, label) in tagset.decode(ids):
                seen.add(ids[1 : 1 + width])
        assert {tuple(row) for row in tagset.spell(label, width)} == seen


def test_spell_needs_the_tags() -> None:
    assert TagSet(("O", "B-A", "E-A"), "BIOES").spell("A", 1) == []
    assert TagSet(("O", "B-A"), "BIO").spell("A", 2) == []


def test_from_labels_sorts_and_joins() -> None:
    tagset = TagSet.from_labels(["LOC", "PER", "LOC", "B-X"])
    assert tagset.tags == (
        "O", "B-B-X", "I-B-X", "B-LOC", "I-LOC", "B-PER", "I-PER"
    )  # fmt: skip
    assert tagset.labels == ("B-X", "LOC", "PER")
    assert len(tagset) == 7


def test_encode_inverts_decode_and_names_the_unknown() -> None:
    tagset = SETS[0]
    assert tagset.encode(["I-B", "O"]) == [4, 0]
    assert tagset.decode([1, 2, 0, 3]) == [TokenSpan(0, 2, "A"), TokenSpan(3, 4, "B")]
    with pytest.raises(ValueError, match="tag 'B-C' is not among the model's: O, B-A"):
        tagset.encode(["O", "B-C"])


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), "BIO"),
        (("B-PER", "I-PER", "O"), "BIO"),
        (("O", "B-PER", "B-LOC", "I-PER"), "BIO"),  # LOC is never long
        (("O", "I-LOC", "B-LOC", "I-PER"), "IOB1"),
        (("O", "I-PER", "I-LOC"), "IOB1"),
        (("O", "B-PER", "I-PER", "E-PER", "S-PER"), "BIOES"),
        (("O", "B-PER", "I-PER", "S-PER"), "BIOS"),
        (("O", "B-PER", "M-PER", "E-PER", "S-PER"), "BMES"),
        (("O", "B-PER", "I-PER", "L-PER", "U-PER"), "BILOU"),
        (("O", "B_PER", "I_PER"), "BIO"),
        (("O", "PER", "LOC"), "IO"),
    ],
)
def test_foreign_schemes(tags: tuple[str, ...], scheme: Scheme) -> None:
    tagset = TagSet.from_foreign(tags)
    assert (tagset.tags, tagset.scheme) == (tags, scheme)
    assert tagset.labels in {("LOC", "PER"), ("PER",)}


@pytest.mark.parametrize(
    ("tags", "fragment"),
    [
        (("LABEL_0", "LABEL_1"), "LABEL_0, LABEL_1"),
        (("O", "B-PER", "PER"), "'PER' has no prefix"),
        (("O", "B-PER", "M-PER", "L-PER"), "mixes schemes"),
        (("B-PER", "I-PER"), 'is O, which stands for "no entity"'),
        (("X", "B-PER", "I-PER"), 'is O, which stands for "no entity"'),
        (("O", "[PAD]"), "names an entity"),
        (("O", "B-PER", "b-PER"), "B-PER and b-PER name the same tag"),
        (("O", "o", "PER"), "O and o name the same tag"),
        (("O", "B-PER", "B_PER"), "B-PER and B_PER name the same tag"),
    ],
)
def test_foreign_outputs_that_are_no_tags_are_refused(tags: tuple[str, ...], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        TagSet.from_foreign(tags)


def test_special_outputs_are_in_no_legal_sequence() -> None:
    for tags in (
        ["[PAD]", "O", "B-PER", "I-PER", "X"],
        ["[PAD]", "O", "I-PER", "B-LOC", "X"],
        ["[PAD]", "O", "PER", "LOC", "<s>"],
        ["[PAD]", "O", "B-P", "S-P", "[SEP]"],
    ):
        tagset = TagSet.from_foreign(tags)
        for special in (0, 4):
            assert not tagset.legal_start_K[special]
            assert not tagset.legal_end_K[special]
            assert not tagset.legal_KK[special].any()
            assert not tagset.legal_KK[:, special].any()
        assert tagset.legal_KK[1, 1]
        assert tagset.legal_start_K[1]
        assert tagset.legal_end_K[1]
        assert tagset.spell("X", 1) == []


def test_a_tag_may_not_stand_twice_or_out_of_scheme() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        TagSet(("O", "B-A", "O"))
    with pytest.raises(ValueError, match="not in scheme BIO"):
        TagSet(("O", "E-A"))
