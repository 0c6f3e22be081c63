"""The errors that the reference study's author ran into (REFERENCE.md), each made on purpose.

None of them may occur any more, or each is explained in one line that says what to do.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import run, run_process
from helpers.tiny import (
    SENTENCES,
    make_predictor,
    make_settings,
    save_predictor,
    tiny_bert,
    write_jsonl,
)
from nertune.artifacts.save import Description, save_model
from nertune.config.run import Settings
from nertune.data.corpus import load_corpus
from nertune.errors import (
    ConfigError,
    DataError,
    MissingDependencyError,
    ModelError,
    NertuneError,
    TokenizerError,
)
from nertune.evaluation.metrics import score
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor, load_model
from nertune.models.encoder import load_encoder
from nertune.models.heads.crf import Crf
from nertune.tokens.batching import collate
from nertune.tokens.tokenizer import load_tokenizer
from nertune.training.examples import prepare_examples
from nertune.types import Document, Entity


def quiet(settings: Settings, **options: Any) -> dict[str, Any]:
    return train(settings, **options)


def one_line(error: BaseException) -> str:
    assert isinstance(error, NertuneError)
    assert "\n" not in str(error)
    assert 20 < len(str(error)) < 500
    return str(error)


# 1. Missing transformers or peft


@pytest.mark.parametrize(
    ("library", "action"),
    [
        ("transformers", lambda settings: load_encoder(settings.model.encoder)),
        ("transformers", lambda settings: load_tokenizer(settings.model.encoder)),
        ("transformers", quiet),
        ("peft", quiet),
        ("accelerate", quiet),
    ],
)
def test_a_missing_library_is_named_with_its_command(
    library: str,
    action: Callable[[Settings], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = make_settings(tmp_path, "lora")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError) as caught:
        action(settings)
    assert f"needs {library}, which is not installed: pip install {library}" in one_line(
        caught.value
    )
    assert not (tmp_path / "run" / "model").exists()


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "nertune\[tensorboard\]"'):
        quiet(make_settings(tmp_path, "lstm", {"train": {"tensorboard": True}}))


def test_an_adapter_without_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings(tmp_path, "lora")
    save_predictor(tmp_path / "model", make_predictor(settings), settings)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependencyError, match="pip install peft"):
        load_model(tmp_path / "model", device="cpu")


def test_an_lstm_needs_neither(tmp_path: Path) -> None:
    """In a process that has never seen them: train, then say what an encoder would need."""
    write_jsonl(tmp_path / "data.jsonl")
    recipe = tmp_path / "lstm.toml"
    recipe.write_text(
        f'[run]\ndir = "{tmp_path}/run"\n[data]\ntrain = "{tmp_path}/data.jsonl"\n'
        '[model]\nemitter = "lstm"\n[lstm]\nhidden_size = 4\n[train]\nepochs = 1\n'
    )
    without = "import sys\nsys.modules['transformers'] = sys.modules['peft'] = None"
    done = run_process("train", recipe, "--json", before=without)
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "finished"
    encoder = [*("--set", "model.emitter=encoder"), *("--set", f"run.dir={tmp_path}/other")]
    done = run_process("train", recipe, *encoder, before=without)
    assert done.code == 2
    assert "pip install transformers" in done.error
    assert "Traceback" not in done.stderr


# 2. A wrong model path


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("./bert-base-chinese", "no such folder"),
        ("/home/someone/models/bert-base-chinese", "no such folder"),
        ("~/models/bert", "no such folder"),
        ("C:\\models\\bert", "no such folder"),
        ("data.jsonl", "is a file"),
        ("empty", "holds no config.json"),
        ("no weights", "safetensors"),
        ("nobody/nothing", "not be fetched|cannot be loaded|no tokenizer"),
    ],
)
def test_a_wrong_model_path(
    path: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    shutil.copytree(tiny_bert(), tmp_path / "no weights")
    (tmp_path / "no weights" / "model.safetensors").unlink()
    settings = make_settings(tmp_path, "full", {"model": {"encoder": path}})
    with pytest.raises((ModelError, TokenizerError), match=reason) as caught:
        quiet(settings)
    assert path in one_line(caught.value)
    with pytest.raises((ModelError, TokenizerError)) as caught:
        Predictor.load(path, device="cpu")
    one_line(caught.value)


def test_an_encoder_without_its_tokenizer(tmp_path: Path) -> None:
    """Else every character would be read as unknown, and training would go on."""
    shutil.copytree(tiny_bert(), tmp_path / "bert")
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        (tmp_path / "bert" / name).unlink(missing_ok=True)
    with pytest.raises(TokenizerError) as caught:
        quiet(make_settings(tmp_path, "full", {"model": {"encoder": str(tmp_path / "bert")}}))
    one_line(caught.value)


# 3. hasattr on a dict


def test_settings_given_as_a_dict(tmp_path: Path) -> None:
    """The reference took settings now as a dict, now as an object."""
    values = make_settings(tmp_path, "lstm").to_dict()
    with pytest.raises(ConfigError, match="parse_settings") as caught:
        train(values)  # type: ignore[arg-type]
    one_line(caught.value)


def test_a_shape_given_as_a_dict_is_validated(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "lstm")
    predictor = make_predictor(settings)
    lstm: Any = settings.lstm.model_dump()
    described = Description(emitter="lstm", tuning="full", decoder="softmax", lstm=lstm)
    save_model(tmp_path / "model", predictor, described)
    assert load_model(tmp_path / "model", device="cpu").tag("王") == predictor.tag("王")


# 4. Model output as a tuple


@pytest.mark.parametrize("variant", ["full", "lora-crf"])
def test_an_encoder_whose_settings_ask_for_tuples(variant: str, tmp_path: Path) -> None:
    encoder = tmp_path / "bert"
    shutil.copytree(tiny_bert(), encoder)
    config = json.loads((encoder / "config.json").read_text())
    tuples = {"return_dict": False, "output_hidden_states": True, "output_attentions": True}
    (encoder / "config.json").write_text(json.dumps(config | tuples))
    settings = make_settings(tmp_path, variant, {"model": {"encoder": str(encoder)}})
    assert quiet(settings)["status"] == "finished"
    predictor = load_model(tmp_path / "run", device="cpu")
    assert predictor.tag(SENTENCES[0].text).text == SENTENCES[0].text


# 5. A slow tokenizer without offsets


def test_a_slow_tokenizer(tmp_path: Path) -> None:
    encoder = tmp_path / "bert"
    shutil.copytree(tiny_bert(), encoder)
    for path in encoder.glob("tokenizer*"):
        path.unlink()
    (encoder / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')
    with pytest.raises(TokenizerError, match=r"\(CanineTokenizer\) is a slow one") as caught:
        quiet(make_settings(tmp_path, "full", {"model": {"encoder": str(encoder)}}))
    assert "tokenizer.json" in one_line(caught.value)


# 6. A class index out of range


def test_more_pieces_than_embeddings(tmp_path: Path) -> None:
    encoder = tmp_path / "bert"
    shutil.copytree(tiny_bert(), encoder)
    tokenizer = load_tokenizer(encoder).backend
    tokenizer.add_tokens(["龘", "靐"])
    tokenizer.save_pretrained(encoder)
    with pytest.raises(ModelError, match="do not belong together") as caught:
        quiet(make_settings(tmp_path, "full", {"model": {"encoder": str(encoder)}}))
    one_line(caught.value)


def test_labels_outside_the_tag_set_never_reach_the_loss(tmp_path: Path) -> None:
    """New labels in dev and test are said aloud; in training they make the tag set."""
    strange = Document("猫在家", (Entity(0, 1, "ANIMAL"),))
    test = str(write_jsonl(tmp_path / "test.jsonl", [strange]))
    settings = make_settings(tmp_path, "full", {"data": {"dev": test, "test": test}})
    assert quiet(settings, score_test=True)["test"]["types"]["ANIMAL"]["recall"] == 0
    predictor = make_predictor(settings)
    with pytest.raises(ValueError, match="is not among the model's"):
        prepare_examples([strange], predictor.segmenter, predictor.tagger.head)


@pytest.mark.parametrize("variant", ["lstm", "full-crf"])
def test_every_id_in_a_batch_is_in_range(variant: str, tmp_path: Path) -> None:
    """Pieces below the embeddings, tags below the outputs or ignored, positions in the row."""
    settings = make_settings(tmp_path, variant, {"model": {"max_pieces": 9, "stride": 2}})
    predictor = make_predictor(settings)
    examples = prepare_examples(SENTENCES, predictor.segmenter, predictor.tagger.head)
    batch = collate(examples.windows, pad_id=0, tags=examples.targets)
    assert int(batch.piece_ids_BL.max()) < predictor.segmenter.tokenizer.vocabulary_size
    assert batch.tags_BU is not None
    assert set(batch.tags_BU.unique().tolist()) <= {-100, *range(len(predictor.tagset))}
    assert int(batch.positions_BU.max()) < batch.piece_ids_BL.shape[1]
    assert torch.isfinite(predictor.tagger(batch))


def test_ignored_positions_never_reach_the_crf(tmp_path: Path) -> None:
    """The reference's -1 for ignored tags was an index into the CRF's transitions."""
    predictor = make_predictor(make_settings(tmp_path, "lstm-crf"))
    crf = predictor.tagger.head
    assert isinstance(crf, Crf)
    first = last = torch.tensor([True])
    for mask in ([True, True, True], [True, False, True]):
        with pytest.raises(ValueError, match="run of units followed by padding"):
            crf.loss(
                torch.zeros(1, 3, 9),
                torch.tensor([[0, -100, 0]]),
                torch.tensor([mask]),
                first,
                last,
            )


# 7. Prediction and label lengths that differ


def test_scores_of_other_documents() -> None:
    for predicted in (SENTENCES[:7], SENTENCES[::-1], [*SENTENCES, SENTENCES[0]], []):
        with pytest.raises(DataError, match="the same documents in the same order") as caught:
            score(SENTENCES, predicted)
        one_line(caught.value)


@pytest.mark.parametrize("variant", ["full", "lstm-crf"])
def test_predictions_are_as_long_as_their_labels(variant: str, tmp_path: Path) -> None:
    """Texts that the tokenizer shortens, lengthens, cuts up or drops: one tag a unit, always."""
    texts = ["", " ", "在1998年", "Tom newsing", "王\u200b小\ufeff明", "e\u0301", "字" * 300, "🙂"]
    predictor = make_predictor(make_settings(tmp_path, variant))
    gold = [*map(Document, texts), *SENTENCES]
    predicted = list(predictor.tag_documents(gold))
    assert score(gold, predicted).num_documents == len(gold)
    for document in gold:
        encoding, windows = predictor.segmenter.segment(document)
        assert sum(window.num_units for window in windows) == len(encoding.units)


def test_text_beyond_the_window_is_neither_cut_nor_unscored(tmp_path: Path) -> None:
    """The reference cut at 100 characters, and so lost the gold behind them."""
    long = Document("好" * 150 + "北京", (Entity(150, 152, "LOCATION"),))
    settings = make_settings(
        tmp_path, "full", {"data": {"test": str(write_jsonl(tmp_path / "t.jsonl", [long]))}}
    )
    assert quiet(settings, score_test=True)["test"]["micro"]["support"] == 1
    predictor = Predictor.load(settings.run.dir, device="cpu")
    encoding, windows = predictor.segmenter.segment(long)
    assert len(windows) > 1
    assert sum(window.num_units for window in windows) == len(encoding.units) == 152


def test_entities_of_one_character_count(tmp_path: Path) -> None:
    """The reference's scorer could not see them."""
    path = tmp_path / "a.conll"
    path.write_text("王 B-PER\n在 O\n京 B-LOC\n", encoding="utf-8")
    corpus = load_corpus(path)
    assert [e.key for e in corpus.documents[0].entities] == [(0, 1, "PER"), (2, 3, "LOC")]
    assert score(corpus.documents, corpus.documents).micro.support == 2


# And at the command line


def test_at_the_command_line_each_is_one_line(tmp_path: Path) -> None:
    recipe = tmp_path / "a.toml"
    data = write_jsonl(tmp_path / "data.jsonl")
    recipe.write_text(f'[data]\ntrain = "{data}"\n[run]\ndir = "{tmp_path}/run"\n')
    done = run("train", recipe, "--set", "model.encoder=./bert-base-chinese")
    assert done.code == 2
    assert "Traceback" not in done.stderr
    assert done.error.startswith("error: ./bert-base-chinese: no such folder")
