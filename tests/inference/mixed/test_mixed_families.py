"""Other encoders than BERT, and peft's merged model as the oracle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.mixed import PEOPLE, make_model
from helpers.tiny import SENTENCES, session_folder, tiny_bert
from nertune.inference.mixed import MultiPredictor
from nertune.inference.predictor import Predictor
from nertune.labels.align import spans_to_entities
from nertune.models.heads.decoder import decode
from nertune.tokens.batching import collate
from nertune.types import Document


@pytest.mark.parametrize("name", ["plain", "io", "rslora", "adalora", "many"])
def test_peft_merged_finds_the_same(base: Path, mixed: Mapping[str, Path], name: str) -> None:
    """Logits by peft and transformers alone, from the folder that plain peft loads."""
    from peft import AutoPeftModelForTokenClassification

    folder = mixed[name]
    served = MultiPredictor.load(base, mixed, device="cpu")
    predictor = Predictor.load(folder)  # how it reads and decodes
    labels = len(predictor.tagset)
    model = AutoPeftModelForTokenClassification.from_pretrained(folder, num_labels=labels)
    merged = model.merge_and_unload().eval()
    found = served.tag(SENTENCES, name)
    for one, document in zip(found, SENTENCES, strict=True):
        encoding, windows = predictor.segmenter.segment(document)
        scores = []
        for window in windows:
            batch = collate([window], pad_id=0)
            with torch.no_grad():
                logits = merged(input_ids=batch.piece_ids_BL).logits
            picked = logits[:, batch.positions_BU[0]]
            scores.append(predictor.tagger.head.scores(picked)[0])
        array = torch.cat(scores).numpy()
        ((spans, chances),) = decode(predictor.tagger.head, [array])
        wanted = spans_to_entities(spans, encoding.units, chances)
        assert isinstance(one, Document)
        assert [e.key for e in one.entities] == sorted(e.key for e in wanted)
        by_key = {e.key: e.score for e in wanted}
        assert all(e.score == pytest.approx(by_key[e.key], abs=1e-5) for e in one.entities)


def family(name: str, config: Any, model: Any) -> Path:
    """An encoder of another family with the tiny BERT's vocabulary."""
    folder = session_folder() / f"mixed-{name}"
    if not folder.exists():
        shutil.copytree(tiny_bert(), folder)
        (folder / "model.safetensors").unlink()
        torch.manual_seed(0)
        model(config).save_pretrained(folder)
    return folder


def sizes(**more: Any) -> dict[str, Any]:
    from transformers import AutoTokenizer

    size = len(AutoTokenizer.from_pretrained(tiny_bert()))
    return {
        "vocab_size": size, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 64, "initializer_range": 0.1, **more,
    }  # fmt: skip


def encoders() -> dict[str, Path]:
    import transformers as t

    return {
        "modernbert": family(
            "modernbert",
            t.ModernBertConfig(
                **sizes(pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2,
                        eos_token_id=3, local_attention=8)
            ),
            t.ModernBertModel,
        ),
        "albert": family(
            "albert", t.AlbertConfig(**sizes(embedding_size=16, pad_token_id=0)), t.AlbertModel
        ),
        "electra": family("electra", t.ElectraConfig(**sizes(embedding_size=16)), t.ElectraModel),
        "deberta": family(
            "deberta",
            t.DebertaV2Config(
                **sizes(relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True,
                        position_buckets=8, norm_rel_ebd="layer_norm")
            ),
            t.DebertaV2Model,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["modernbert", "albert", "electra", "deberta"])
def test_other_encoders_mix_what_they_can(name: str, tmp_path: Path) -> None:
    """DeBERTa projects its positions once for all rows, so only its other modules are stacked."""
    encoder = encoders()[name]
    targets = {"ffn": ["intermediate", "output"], "key": ["query", "key"]}
    folders = {
        key: make_model(
            tmp_path / key,
            PEOPLE[: i + 1],
            {
                "model": {"tuning": "lora", "encoder": str(encoder)},
                "lora": {"targets": chosen, "rank": 3 + i},
            },
            seed=i,
        )
        for i, (key, chosen) in enumerate(targets.items())
    }
    served = MultiPredictor.load(None, folders, device="cpu")
    assert served.describe("ffn").mixes
    assert served.describe("key").mixes == (name != "deberta")
    assert ("once for all rows" in served.describe("key").why_not) == (name == "deberta")
    names = [["ffn", "key"][i % 2] for i in range(len(SENTENCES))]
    found = served.tag(SENTENCES, names)
    alone = {key: Predictor.load(folder) for key, folder in folders.items()}
    for one, document, key in zip(found, SENTENCES, names, strict=True):
        wanted = alone[key].tag(document.text)
        assert isinstance(one, Document), one
        assert [e.key for e in one.entities] == [e.key for e in wanted.entities]
        for a, b in zip(one.entities, wanted.entities, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-5)
