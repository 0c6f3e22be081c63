"""Every method of peft that suits a tagger: trained, saved, loaded, merged, resumed, refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertForTokenClassification

from helpers.fitting import fit
from helpers.tiny import SENTENCES, make_predictor, make_settings, tiny_rates
from nertune.config.run import Settings, parse_settings
from nertune.errors import ConfigError, MissingDependencyError
from nertune.experiments import fitting
from nertune.experiments import train as experiment
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor, load_model
from nertune.models.peft import adapters
from nertune.models.peft.adalora import RankSchedule
from nertune.models.peft.adapters import count_virtual_tokens, list_methods
from nertune.tokens.batching import collate
from nertune.training.optimizer import build_optimizer, group_parameters
from nertune.training.progress import trainable_tensors

# Options without which a method does not fit an encoder that is 32 wide.
OPTIONS: dict[str, dict[str, Any]] = {
    "c3a": {"block_size": 8}, "miss": {"r": 8}, "road": {"group_size": 8}, "shira": {"r": 4},
    "vblora": {"vector_length": 8}, "waveft": {"n_frequency": 100}, "frod": {},
    "fourierft": {"n_frequency": 50},
}  # fmt: skip
SOFT_PROMPTS = ("prefix_tuning", "prompt_tuning", "p_tuning")
CANNOT_MERGE = ("lily", *SOFT_PROMPTS)
NAMED: dict[str, dict[str, dict[str, Any]]] = {
    "bitfit": {"model": {"tuning": "bitfit"}},
    "top": {"model": {"tuning": "top", "top_layers": 1}},
    "frozen": {"model": {"tuning": "frozen"}},
    "rslora": {"model": {"tuning": "lora"}, "lora": {"rslora": True}},
    "dora": {"model": {"tuning": "lora"}, "lora": {"dora": True}},
    "pissa": {"model": {"tuning": "lora"}, "lora": {"init": "pissa"}},
    "olora": {"model": {"tuning": "lora"}, "lora": {"init": "olora"}},
    "orthogonal": {"model": {"tuning": "lora"}, "lora": {"init": "orthogonal"}},
    "lora+": {"model": {"tuning": "lora"}, "train": {"lora_plus": 4}},
}
RESUMED = (
    "adalora", "ia3", "vera", "oft", "boft", "hra", "loha", "lokr", "beft", "ln_tuning",
    *SOFT_PROMPTS,
)  # fmt: skip


def settings_of(method: str, folder: Path, **train_values: Any) -> Settings:
    values: dict[str, dict[str, Any]] = NAMED.get(method) or {
        "model": {"tuning": "peft"},
        "peft": {"method": method, "options": OPTIONS.get(method, {})},
    }
    rates = tiny_rates(0.02, values["model"])
    changes = {"epochs": 2, **rates, **values.get("train", {}), **train_values}
    return make_settings(folder, "full", {**values, "train": changes})


def train_quietly(settings: Settings, **options: Any) -> dict[str, Any]:
    return train(settings, **options)


def emissions(predictor: Predictor) -> list[np.ndarray]:
    return list(predictor.emissions(SENTENCES)[1])


def apart(one: Predictor, other: Predictor) -> float:
    pairs = zip(emissions(one), emissions(other), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.parametrize("method", [*list_methods(), *NAMED])
def test_what_was_trained_is_saved_and_loaded(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Predictor] = []
    build = experiment.build_learner

    def keep(*arguments: Any) -> fitting.Learner:
        learner = build(*arguments)
        kept.append(learner.predictor)
        return learner

    monkeypatch.setattr(experiment, "build_learner", keep)
    settings = settings_of(method, tmp_path)
    record = train_quietly(settings)
    losses = [epoch["loss"] for epoch in record["epochs"]]
    assert losses[1] < losses[0]
    loaded = load_model(settings.run.dir, device="cpu")
    assert apart(kept[0], loaded) < 1e-5
    merged = load_model(settings.run.dir, device="cpu", merge=True)
    assert apart(loaded, merged) < 1e-4
    # The model of an adapter still has one after merging only where that cannot be done.
    assert hasattr(merged.tagger.emitter.model, "peft_config") == (method in CANNOT_MERGE)


@pytest.mark.parametrize("method", [*list_methods(), *NAMED])
def test_only_what_should_train_does(method: str, tmp_path: Path) -> None:
    predictor = make_predictor(settings_of(method, tmp_path), noise=0)
    before = {n: p.detach().clone() for n, p in predictor.tagger.named_parameters()}
    groups = group_parameters(predictor.tagger)
    trained = {name for parameters in groups.values() for name in parameters}
    assert "head" in groups
    if method == "frozen":
        assert set(groups) == {"head"}
    elif method in ("bitfit", "top"):
        assert set(groups) == {"head", "encoder"}
    else:
        assert set(groups) <= {"head", "adapter", "adapter_b"}
        assert len(groups) > 1
    settings = settings_of(method, tmp_path, epochs=1)
    accelerator = fitting.open_accelerator(settings)
    examples = fitting.prepare_examples(SENTENCES, predictor.segmenter, predictor.tagger.head)
    fit(predictor.tagger, examples, settings.train, accelerator=accelerator, seed=1, pad_id=0)
    changed = {
        name
        for name, parameter in predictor.tagger.named_parameters()
        if not torch.equal(parameter.detach(), before[name])
    }
    assert changed <= trained | {n for n in before if "ranknum" in n}
    adapter = {n for g in ("adapter", "adapter_b", "encoder") for n in groups.get(g, ())}
    assert method == "frozen" or changed & adapter


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", [*RESUMED, *NAMED])
def test_a_killed_run_goes_on_to_the_same_weights(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings_in(name: str) -> Settings:
        (folder := tmp_path / name).mkdir(exist_ok=True)
        return settings_of(method, folder, epochs=4, checkpoint_steps=1)

    train_quietly(settings_in("whole"))
    forward, calls = experiment.Predictor.tag_documents, []

    def dies_in_the_third_epoch(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return forward(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(experiment.Predictor, "tag_documents", dies_in_the_third_epoch)
        with pytest.raises(Killed):
            train_quietly(settings_in("killed"))
    train_quietly(settings_in("killed"), resume=True)
    one, other = (
        load_model(settings_in(name).run.dir, device="cpu") for name in ("whole", "killed")
    )
    assert apart(one, other) == 0


# Soft prompts: the emissions must belong to the pieces that they are said to belong to


@pytest.mark.parametrize("method", SOFT_PROMPTS)
def test_emissions_line_up_with_the_pieces(method: str, tmp_path: Path) -> None:
    predictor = make_predictor(settings_of(method, tmp_path), noise=0)
    emitter = predictor.tagger.eval().emitter
    model: Any = emitter.model
    _, windows = predictor.segmenter.segment(SENTENCES[0])
    batch = collate(windows, pad_id=0)
    with torch.no_grad():
        found = emitter(batch.piece_ids_BL, batch.attention_BL)
        # The same by hand: hidden states of the pieces only, through the same head.
        output = model(
            input_ids=batch.piece_ids_BL, attention_mask=batch.attention_BL,
            output_hidden_states=True, return_dict=True,
        )  # fmt: skip
        hidden = output.hidden_states[-1]
        by_hand = model.get_base_model().classifier(hidden)[:, -batch.piece_ids_BL.shape[1] :]
    assert found.shape[:2] == batch.piece_ids_BL.shape
    torch.testing.assert_close(found, by_hand)
    # And a change of the last piece is seen most in the last emission, of the first in the first.
    for position in (1, batch.piece_ids_BL.shape[1] - 2):
        changed = batch.piece_ids_BL.clone()
        changed[0, position] = 5 if int(changed[0, position]) != 5 else 6
        with torch.no_grad():
            moved = (emitter(changed, batch.attention_BL) - found).abs().sum(-1)[0]
        assert int(moved.argmax()) == position


@pytest.mark.parametrize("method", SOFT_PROMPTS)
def test_a_soft_prompt_makes_windows_shorter(method: str, tmp_path: Path) -> None:
    predictor = make_predictor(settings_of(method, tmp_path), noise=0)
    virtual = count_virtual_tokens(predictor.tagger.emitter.model)
    assert virtual == 20
    assert predictor.segmenter.max_pieces == 64 - virtual
    long = "".join(d.text for d in SENTENCES) * 3
    assert predictor.tag(long).text == long
    with pytest.raises(ConfigError, match="64 positions, 20 of them taken by the soft prompt"):
        make_predictor(
            parse_settings(_with(settings_of(method, tmp_path), "model", max_pieces=50)), noise=0
        )


def _with(settings: Settings, section: str, **changes: Any) -> Mapping[str, Any]:
    values = settings.to_dict()
    values[section] |= changes
    return values


# AdaLoRA


def test_adalora_gives_up_directions_down_to_its_budget(tmp_path: Path) -> None:
    options = {"init_r": 6, "target_r": 2}
    values = dict(_with(settings_of("adalora", tmp_path, epochs=12), "peft", options=options))
    values["data"]["dev"] = ""  # or the best epoch may be one before any direction went
    settings = parse_settings(values)
    train_quietly(settings)
    model: Any = load_model(settings.run.dir, device="cpu").tagger.emitter.model
    values_of = [p for name, p in model.named_parameters() if ".lora_E." in name]
    left = sum(int((p != 0).sum()) for p in values_of)
    assert left == 2 * len(values_of) < sum(p.numel() for p in values_of)


def test_adalora_without_room_to_give_up_directions_is_refused(tmp_path: Path) -> None:
    options = {"tinit": 200, "tfinal": 1000}
    values = _with(settings_of("adalora", tmp_path, epochs=1), "peft", options=options)
    with pytest.raises(ConfigError, match="tinit = 200 and tfinal = 1000 leave none of this run's"):
        train_quietly(parse_settings(values))


def test_adaloras_penalty_is_that_of_its_paper(tmp_path: Path) -> None:
    predictor = make_predictor(settings_of("adalora", tmp_path))
    ranks = RankSchedule.of(predictor.tagger, 100)
    assert ranks is not None
    model: Any = predictor.tagger.emitter.model
    ids = torch.ones((1, 3), dtype=torch.int64)
    model.eval()
    plain = model.get_base_model()(input_ids=ids, labels=ids).loss
    with_penalty = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
    torch.testing.assert_close(ranks.penalty(), with_penalty - plain, rtol=1e-4, atol=1e-4)
    assert RankSchedule.of(make_predictor(settings_of("ia3", tmp_path)).tagger, 9) is None


# Rates and decay


def test_a_step_that_was_left_out_does_not_spoil_adaloras_weighing(tmp_path: Path) -> None:
    """In fp16 the first steps may overflow; their gradients are still there."""
    predictor = make_predictor(settings_of("adalora", tmp_path))
    ranks = RankSchedule.of(predictor.tagger, 100)
    assert ranks is not None
    for parameter in predictor.tagger.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, float("inf"))
    ranks.forget_gradients()
    ranks.step(1)
    assert all(tensor.isfinite().all() for tensor in ranks.tensors().values())
    assert ranks.tensors()


def test_lora_plus_gives_b_its_multiple(tmp_path: Path) -> None:
    settings = settings_of("lora+", tmp_path, lora_plus=16, learning_rate=1e-3)
    optimizer, _ = build_optimizer(make_predictor(settings).tagger, settings.train)
    peaks = {group["name"]: group["peak"] for group in optimizer.param_groups}
    assert peaks["adapter_b"] == pytest.approx(16e-3)
    assert peaks["adapter"] == pytest.approx(1e-3)


@pytest.mark.parametrize(("method", "factor"), [("ia3", 10.0), ("adalora", 4.0), ("oft", 2.0)])
def test_methods_without_a_rate_have_their_own_multiple(
    method: str, factor: float, tmp_path: Path
) -> None:
    settings = settings_of(method, tmp_path, learning_rate=None, head_learning_rate=None)
    optimizer, _ = build_optimizer(make_predictor(settings).tagger, settings.train)
    peaks = {group["name"]: group["peak"] for group in optimizer.param_groups}
    assert peaks["adapter"] == pytest.approx(factor * 5e-4)  # of a narrow BERT
    assert peaks["head"] == 2e-3


def test_scales_that_begin_at_one_do_not_decay(tmp_path: Path) -> None:
    settings = settings_of("ia3", tmp_path)
    optimizer, _ = build_optimizer(make_predictor(settings).tagger, settings.train)
    decays = {g["name"]: g["weight_decay"] for g in optimizer.param_groups if g["name"] != "head"}
    assert decays == {"adapter": 0.0}


# Refusals


@pytest.mark.parametrize(
    ("peft", "message"),
    [
        ({"method": "lroa"}, "'lroa' is unknown to this peft; it has adalora, "),
        ({"method": "lora"}, 'settings of its own: model.tuning = "lora"'),
        ({"method": "xlora"}, "mixes adapters that were trained before"),
        ({"method": "poly"}, "number of a task"),
        ({"method": "cpt"}, "generating"),
        ({"method": "vera", "options": {"rank": 4}}, "VeraConfig has no such option.*known: .*r"),
        ({"method": "vera", "options": {"target_modules": ["x"]}}, "it is peft.targets"),
        ({"method": "vera", "options": {"r": -4}}, "cannot be used .* negative dimension"),
        ({"method": "ia3", "targets": ["quer"]}, "peft.targets: 'quer' matches no linear module"),
        ({"method": "ia3", "layers": "top-9"}, "peft.layers: 'top-9', but the encoder has 2"),
        ({"method": "prompt", "layers": "top-1"}, "works on all layers or on none"),
        ({"method": "adalora", "options": {"init_r": 8}}, "init_r = 8 must be above target_r = 8"),
        ({"method": "adalora", "options": {"target_r": 12}}, "init_r = 12 must be above"),
        ({"method": "adalora", "options": {"init_r": "12"}}, "cannot be used"),
        ({"method": "road", "options": {}}, "cannot be used .*divisible by"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    peft: dict[str, Any], message: str, tmp_path: Path
) -> None:
    values = _with(settings_of("ia3", tmp_path), "peft", **{"options": {}, **peft})
    with pytest.raises(ConfigError, match=message):
        make_predictor(parse_settings(values))


@pytest.mark.parametrize("name", ["prefix", "Prefix-Tuning", "prefix_tuning", "PREFIX_TUNING"])
def test_names_are_read_kindly(name: str, tmp_path: Path) -> None:
    values = _with(settings_of("ia3", tmp_path), "peft", method=name)
    model: Any = make_predictor(parse_settings(values)).tagger.emitter.model
    assert count_virtual_tokens(model) == 20


def test_trained_on_the_layers_asked_for(tmp_path: Path) -> None:
    values = _with(settings_of("ia3", tmp_path), "peft", layers=[1], targets=["all-linear"])
    predictor = make_predictor(parse_settings(values))
    names = group_parameters(predictor.tagger)["adapter"]
    assert names
    assert all("layer.1." in name for name in names)


def test_the_trainable_weights_are_what_a_checkpoint_holds(tmp_path: Path) -> None:
    predictor = make_predictor(settings_of("vera", tmp_path))
    groups = group_parameters(predictor.tagger)
    assert "adapter" in groups
    names = {name for parameters in groups.values() for name in parameters}
    assert set(trainable_tensors(predictor.tagger)) == names


def test_what_a_probe_finds_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emit = BertForTokenClassification.forward

    def make(change: Callable[[Tensor], Tensor]) -> None:
        def forward(self: Any, *arguments: Any, **options: Any) -> Any:
            output = emit(self, *arguments, **options)
            output.logits = change(output.logits)
            return output

        monkeypatch.setattr(BertForTokenClassification, "forward", forward)
        make_predictor(settings_of("ia3", tmp_path))

    with pytest.raises(ConfigError, match=r"cannot be used .*it gives 3 logits for 4 tokens"):
        make(lambda logits: logits[:, 1:])
    with pytest.raises(ConfigError, match=r"cannot be used .*its logits are not finite"):
        make(lambda logits: logits / 0)


def test_a_probe_leaves_no_trace(tmp_path: Path) -> None:
    predictor = make_predictor(settings_of("ia3", tmp_path))
    model: Any = predictor.tagger.emitter.model
    for mode in (True, False):
        model.train(mode)
        torch.manual_seed(3)
        expected = torch.rand(4)
        torch.manual_seed(3)
        adapters._probe(model)
        assert torch.equal(torch.rand(4), expected)
        assert model.training == mode


def test_what_a_method_needs_and_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise ImportError("No module named 'cuda_things'", name="cuda_things")

    monkeypatch.setattr("peft.get_peft_model", lacking)
    with pytest.raises(MissingDependencyError, match=r"peft\.method ia3 needs cuda_things"):
        make_predictor(settings_of("ia3", tmp_path))


def test_ia3_scales_what_goes_into_the_feed_forward_outputs(tmp_path: Path) -> None:
    values = _with(settings_of("ia3", tmp_path), "peft", targets=["all-linear"])
    model: Any = make_predictor(parse_settings(values)).tagger.emitter.model
    inner = {name for name, module in model.named_modules()
             if getattr(module, "is_feedforward", False)}  # fmt: skip
    prefix = "base_model.model.bert.encoder.layer."
    assert inner == {f"{prefix}{layer}.output.dense" for layer in (0, 1)}


def test_norms_are_those_of_the_layers_asked_for(tmp_path: Path) -> None:
    values = _with(settings_of("ln_tuning", tmp_path), "peft", layers=[1])
    predictor = make_predictor(parse_settings(values))
    names = group_parameters(predictor.tagger)["adapter"]
    assert names
    assert all("layer.1." in name and "LayerNorm" in name for name in names)
