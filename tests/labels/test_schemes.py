"""Tag schemes against seqeval, and round trips."""

from __future__ import annotations

import random
import warnings
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from nertune.labels.schemes import (
    SCHEMES,
    Repair,
    Scheme,
    SchemeError,
    TokenSpan,
    bio_tags,
    decode_tags,
    detect_scheme,
    encode_tags,
    normalize_tags,
    split_tag,
)

LABELS = ("PER", "LOC", "B-X", "a b", "组织")
EXACT: tuple[Scheme, ...] = tuple(scheme for scheme in SCHEMES if scheme != "IO")


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[TokenSpan], int]:
    """Spans that do not overlap, and the sentence's length."""
    spans, position = [], 0
    for gap, length, label in draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(LABELS)), max_size=6
        )
    ):
        first = position + gap
        position = first + length
        spans.append(TokenSpan(first, position, label))
    return spans, position + draw(st.integers(0, 2))


@pytest.mark.parametrize("prefixes", ["BI", "BIES"])
def test_decode_equals_seqeval_on_random_tags(prefixes: str) -> None:
    """Also on orphan tags, type changes and entities that are not closed."""
    generator = random.Random(7)
    tags = ["O", "O", *(f"{prefix}-{label}" for prefix in prefixes for label in ("PER", "LOC"))]
    scheme: Scheme = "BIO" if prefixes == "BI" else "BIOES"
    for _ in range(4000):
        sentence = generator.choices(tags, k=generator.randint(0, 9))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = [TokenSpan(s, e + 1, label) for label, s, e in get_entities(sentence)]
        assert decode_tags(sentence, scheme)[0] == expected, sentence


@given(sentences(), st.sampled_from(EXACT))
def test_decode_inverts_encode(sentence: tuple[list[TokenSpan], int], scheme: Scheme) -> None:
    spans, num_tokens = sentence
    tags = encode_tags(spans, num_tokens, scheme)
    assert len(tags) == num_tokens
    assert decode_tags(tags, scheme) == (spans, [])


@given(sentences(), st.sampled_from(EXACT))
def test_the_detected_scheme_reads_the_same_spans(
    sentence: tuple[list[TokenSpan], int], scheme: Scheme
) -> None:
    tags = encode_tags(*sentence, scheme)
    assert decode_tags(tags, detect_scheme([tags])) == (sentence[0], [])


@given(sentences())
def test_io_keeps_every_token_but_merges_neighbours(
    sentence: tuple[list[TokenSpan], int],
) -> None:
    spans, num_tokens = sentence
    tags = encode_tags(spans, num_tokens, "IO")
    decoded, repairs = decode_tags(tags, "IO")
    assert repairs == []
    assert encode_tags(decoded, num_tokens, "IO") == tags
    for one, other in pairwise(decoded):
        assert (one.last, one.label) != (other.first, other.label)


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("", "BIO"),
        ("O O", "BIO"),
        ("B-A I-A O B-A", "BIO"),
        ("B-A O I-B", "BIO"),  # one orphan does not make it IOB1
        ("I-A I-A O I-B", "IOB1"),
        ("I-A B-A I-A", "IOB1"),
        ("B-A E-A S-B", "BIOES"),
        ("S-A O", "BIOES"),
        ("B_A I_A E_A", "BIOES"),
        ("B-A I-A I-A S-B", "BIOS"),
        ("S-A O B-A I-A", "BIOS"),
        ("B-A M-A E-A", "BMES"),
        ("B-A I-A L-A U-B", "BILOU"),
        ("U-A", "BILOU"),
        ("A A O B", "IO"),
    ],
)
def test_detect_scheme(tags: str, scheme: Scheme) -> None:
    assert detect_scheme([tags.split()]) == scheme


@pytest.mark.parametrize(
    ("tags", "position", "fragment"),
    [
        ("B-A O PER", 2, "has no prefix"),
        ("PER O B-A", 0, "has no prefix"),
        ("B-A M-A I-A", 2, "mixes schemes"),
        ("B-A E-A L-A", 2, "mixes schemes"),
        ("S-A U-A", 1, "mixes schemes"),
    ],
)
def test_detect_scheme_names_the_tag_that_does_not_fit(
    tags: str, position: int, fragment: str
) -> None:
    with pytest.raises(SchemeError, match=fragment) as caught:
        detect_scheme([["O"], tags.split()])
    assert (caught.value.sentence, caught.value.position) == (1, position)


def test_repairs_say_what_was_wrong_where() -> None:
    spans, repairs = decode_tags(["O", "I-A", "B-B", "I-A"], "BIO")
    assert spans == [TokenSpan(1, 2, "A"), TokenSpan(2, 3, "B"), TokenSpan(3, 4, "A")]
    assert repairs == [
        Repair(1, "I-A", "nothing opened this entity"),
        Repair(3, "I-A", "nothing opened this entity"),
    ]
    assert decode_tags(["B-A", "I-A", "O"], "BIOES") == (
        [TokenSpan(0, 2, "A")],
        [Repair(1, "I-A", "entity is not closed")],
    )


@pytest.mark.parametrize(
    ("tag", "scheme"),
    [("X-A", "BIO"), ("B-", "BIO"), ("B", "BIO"), ("E-A", "BIO"), ("I-A", "BMES"), ("b-A", "BIO")],
)
def test_split_tag_refuses_tags_of_no_or_another_scheme(tag: str, scheme: Scheme) -> None:
    with pytest.raises(ValueError, match="is not in scheme"):
        split_tag(tag, scheme)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-PER I-PER", "O B-PER I-PER"),
        ("O B_PER I_PER", "O B_PER I_PER"),  # `split_tag` reads these
        ("B I O", "B-ENTITY I-ENTITY O"),
        ("o b i", "O B-ENTITY I-ENTITY"),
        ("I O", "I-ENTITY O"),
        ("B M E S O", "B-ENTITY M-ENTITY E-ENTITY S-ENTITY O"),
        ("o b-per i-per", "O B-per I-per"),
        ("O b_PER i_PER", "O B-PER I-PER"),
        ("O B/PER I/PER", "O B-PER I-PER"),
        ("O PER-B PER-I", "O B-PER I-PER"),
        ("O PER_B PER_I LOC_B", "O B-PER I-PER B-LOC"),
        ("O PER/B PER/I", "O B-PER I-PER"),
        ("o per-b per-i", "O B-per I-per"),
        ("O creative-work-B creative-work-I", "O B-creative-work I-creative-work"),
        ("O B-PER I-PER X", "O B-PER I-PER -"),
        ("O B-X I-X X", "O B-X I-X -"),
        ("B I O X pad", "B-ENTITY I-ENTITY O - -"),
        ("O PER-B PER-I IGNORE", "O B-PER I-PER -"),
        ("[PAD] O B-PER I-PER [CLS] [SEP]", "- O B-PER I-PER - -"),
        ("<pad> O B-PER I-PER <s> </s> <START> [unused1]", "- O B-PER I-PER - - - -"),
        ("O PER LOC [PAD]", "O PER LOC -"),
        # Types that only look like something else.
        ("O PER X", "O PER X"),
        ("O e-mail s-class", "O e-mail s-class"),
        ("O vitamin-e hepatitis-b PER", "O vitamin-e hepatitis-b PER"),
        ("O S M", "O S M"),
        ("O B LOC", "O B LOC"),
        ("O B-PER PER", "O B-PER PER"),  # a mixture is refused by `detect_scheme`
        ("O B-PER I", "O B-PER I"),
    ],
)
def test_normalize_tags(tags: str, expected: str) -> None:
    found = normalize_tags(tags.split())
    assert [found[tag] or "-" for tag in tags.split()] == expected.split()
    backwards = normalize_tags(reversed(tags.split()))
    assert backwards == found


def test_split_tag_cuts_at_the_first_mark_only() -> None:
    assert split_tag("B-creative-work", "BIO") == ("B", "creative-work")
    assert split_tag("M_PER_x", "BMES") == ("I", "PER_x")


@pytest.mark.parametrize(
    "spans", [[TokenSpan(0, 2, "A"), TokenSpan(1, 3, "B")], [TokenSpan(2, 4, "A")]]
)
def test_encode_refuses_what_does_not_fit(spans: list[TokenSpan]) -> None:
    with pytest.raises(ValueError, match="overlaps"):
        encode_tags(spans, 3)


def test_bio_tags_are_sorted_and_distinct() -> None:
    assert bio_tags(["PER", "LOC", "PER"]) == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
