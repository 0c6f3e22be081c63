"""What decodes without PyTorch does what the head does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nertune.errors import ArtifactError
from nertune.labels.tagset import TagSet
from nertune.models.build import build_head
from nertune.models.heads.decoder import decode, read_chain_decoder

TAGS = TagSet.from_labels(["A", "B"])


@pytest.mark.parametrize("name", ["softmax", "crf"])
def test_it_decodes_as_the_head(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = build_head(name, TAGS)
    module: torch.nn.Module = head  # type: ignore[assignment]
    for parameter in module.parameters():
        parameter.data.normal_()
    save_file(module.state_dict(), tmp_path / "crf.safetensors")
    decoder = read_chain_decoder(tmp_path, name, TAGS)
    assert decoder is not None
    logits_BUK = 3 * torch.randn((40, 9, len(TAGS)))
    with torch.inference_mode():
        expected_BUK = head.scores(logits_BUK).numpy()
    scores_BUK = decoder.scores(logits_BUK.numpy())
    assert scores_BUK.dtype == np.float32
    np.testing.assert_allclose(scores_BUK, expected_BUK, atol=1e-5)
    wanted, found = decode(head, list(expected_BUK)), decode(decoder, list(scores_BUK))
    assert sum(len(spans) for spans, _ in wanted) > 40
    for (spans, scores), (found_spans, found_scores) in zip(wanted, found, strict=True):
        assert found_spans == spans
        np.testing.assert_allclose(found_scores, scores, atol=1e-5)


def test_a_head_of_ones_own_is_not_known_here(tmp_path: Path) -> None:
    assert read_chain_decoder(tmp_path, "mine", TAGS) is None


@pytest.mark.parametrize("damage", ["missing", "no file of the kind", "other tags"])
def test_damaged_weights(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "crf.safetensors"
    if damage == "no file of the kind":
        path.write_bytes(b"nothing")
    elif damage == "other tags":
        module: torch.nn.Module = build_head("crf", TagSet.from_labels(["A"]))  # type: ignore[assignment]
        save_file(module.state_dict(), path)
    with pytest.raises(ArtifactError, match=r"crf\.safetensors: .*copy the model's folder again"):
        read_chain_decoder(tmp_path, "crf", TAGS)
