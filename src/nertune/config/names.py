"""Names of settings: those of 0.1.0 are translated, those of other tools answered with ours."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nertune.errors import ConfigError

__all__ = [
    "OLD_RATES",
    "name_here",
    "nearest",
    "pretraining_name_here",
    "section_here",
    "upgrade_values",
]

_OLD_ENCODER_FACTOR = 0.1  # the encoder's share of `rate` in 0.1.0 where a recipe named none
_NEW_RATES = ("learning_rate", "head_learning_rate", "crf_learning_rate")

_Rate = Annotated[float, Field(gt=0, le=10)]


class _OldRates(BaseModel):
    """Learning rates as 0.1.0 had them in [train], with its limits."""

    model_config = ConfigDict(frozen=True)

    rate: _Rate | None = None
    encoder_factor: float | None = Field(None, gt=0, le=1)
    head_rate: _Rate | None = None
    adapter_rate: _Rate | None = None
    crf_rate: _Rate | None = None


OLD_RATES = tuple(_OldRates.model_fields)
"""Keys of [train] that 0.1.0 knew and that have other names today."""


def upgrade_values(
    values: Mapping[str, Any], *, source: str = "settings"
) -> tuple[dict[str, Any], list[str]]:
    """Settings of any version under the names of today, with the same effect.

    In 0.1.0 `train.rate` was a base: the head's and an adapter's rate, and ten times the encoder's.

    Args:
        values: of a recipe or a record, by section. They are not changed.
        source: where they come from, for errors.

    Returns:
        The values, and one line for each old name that was read.

    Raises:
        ConfigError: an old name has a value that 0.1.0 refused, or stands beside a new one.
    """
    train = values.get("train")
    if not isinstance(train, Mapping) or not any(key in train for key in OLD_RATES):
        return dict(values), []
    given = {k: train[k] for k in OLD_RATES if train.get(k) is not None}
    beside = [key for key in _NEW_RATES if train.get(key) is not None]
    if given and beside:
        raise ConfigError(
            f"{source}: train.{next(iter(given))} is an old name and stands beside the new "
            f"train.{beside[0]}: use the new names alone "
            "(learning_rate, head_learning_rate, crf_learning_rate)"
        )
    old = _read_old(given, source)
    came_of = _translate(old, values.get("model"))
    new = {key: value for found in came_of.values() for key, value in found.items()}
    kept = {key: value for key, value in train.items() if key not in OLD_RATES}
    return {**values, "train": {**kept, **new}}, [_tell(k, came_of.get(k, {})) for k in given]


def _read_old(given: Mapping[str, Any], source: str) -> _OldRates:
    try:
        old = _OldRates.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{source}: train.{first['loc'][0]}: {first['msg']}, got {first['input']!r}"
        ) from error
    if old.encoder_factor is not None and old.rate is None:
        raise ConfigError(
            f"{source}: train.encoder_factor = {old.encoder_factor:g} is a share of train.rate, "
            "which is not given: set train.learning_rate, the encoder's own, instead"
        )
    return old


def _translate(old: _OldRates, model: Any) -> dict[str, dict[str, float]]:
    """For each old name the new ones that it decides, with their values."""
    model = model if isinstance(model, Mapping) else {}
    tuning = model.get("tuning", "full")
    came_of: dict[str, dict[str, float]] = {key: {} for key in OLD_RATES}
    if old.crf_rate is not None:
        came_of["crf_rate"]["crf_learning_rate"] = old.crf_rate
    if model.get("emitter") == "lstm":
        if old.rate is not None:
            came_of["rate"]["learning_rate"] = old.rate
        return came_of
    if tuning in ("lora", "peft"):
        if old.adapter_rate is not None:
            came_of["adapter_rate"]["learning_rate"] = old.adapter_rate
        elif old.rate is not None:
            came_of["rate"]["learning_rate"] = old.rate
    elif tuning != "frozen" and old.rate is not None:
        encoder = old.rate * (old.encoder_factor or _OLD_ENCODER_FACTOR)
        came_of["rate"]["learning_rate"] = encoder
        if old.encoder_factor is not None:
            came_of["encoder_factor"]["learning_rate"] = encoder
    if old.head_rate is not None:
        came_of["head_rate"]["head_learning_rate"] = old.head_rate
    elif old.rate is not None:  # of a frozen encoder, the head is what is tuned
        key = "learning_rate" if tuning == "frozen" else "head_learning_rate"
        came_of["rate"][key] = old.rate
    return came_of


def _tell(old: str, new: Mapping[str, float]) -> str:
    if not new:
        return f"train.{old} is an old name and trains nothing here: left out"
    read = ", ".join(f"{key} = {value:g}" for key, value in new.items())
    return f"train.{old} is now train.{next(iter(new))}: read as {read}"


# What other tools call a setting, and what it is here. A name that no setting here stands for gets
# the reason. `{n}` is the value, `{tokens}` what a batch of so many sentences comes to.
_BATCH = (
    "train.batch_tokens, which counts padded tokens and not sentences: about sentences × mean "
    "length, e.g. {tokens} for {n} sentences of 40 tokens"
)
_LABELS = "no setting here: the labels are those of the training data"
_DROPOUT = (
    "no setting here: an encoder keeps the dropout of its config.json; a BiLSTM's is lstm.dropout, "
    "LoRA's lora.dropout"
)
_CHOSEN = "no setting here: dev is scored after every epoch, and the best micro-F1 chooses"
_SPEED = "no setting here: leave it out"
_TAGGER: tuple[tuple[str, str], ...] = (
    ("lr learning_rate learningrate base_lr peak_lr max_lr encoder_lr bert_lr init_lr rate "
     "encoder_factor adapter_rate adapter_lr lora_lr", "train.learning_rate"),
    ("head_lr classifier_lr linear_lr task_lr classifier_learning_rate head_rate",
     "train.head_learning_rate"),
    ("crf_lr crf_rate", "train.crf_learning_rate"),
    ("num_train_epochs num_epochs max_epochs n_epochs nb_epochs", "train.epochs"),
    ("max_steps num_steps total_steps", "train.epochs, in epochs and not in steps"),
    ("per_device_train_batch_size per_gpu_train_batch_size train_batch_size batch_size batchsize "
     "mini_batch_size bs", _BATCH),
    ("per_device_eval_batch_size per_gpu_eval_batch_size eval_batch_size test_batch_size "
     "dataloader_num_workers num_workers group_by_length logging_steps log_steps do_train do_eval "
     "do_predict save_total_limit disable_tqdm gradient_checkpointing task_type", _SPEED),
    ("fp16 half", 'train.precision = "fp16"'),
    ("bf16", 'train.precision = "bf16"'),
    ("amp use_amp mixed_precision", 'train.precision = "bf16" or "fp16"'),
    ("output_dir save_dir out_dir model_dir checkpoint_dir output", "run.dir"),
    ("run_name experiment_name", "run.name"),
    ("max_length max_seq_length max_len max_seq_len max_sequence_length model_max_length seq_len",
     "model.max_pieces; longer text is cut into overlapping windows, none of it is lost"),
    ("doc_stride overlap", "model.stride"),
    ("r lora_r lora_rank", 'lora.rank, with model.tuning = "lora"'),
    ("lora_alpha", 'lora.alpha, with model.tuning = "lora"'),
    ("lora_dropout", 'lora.dropout, with model.tuning = "lora"'),
    ("target_modules lora_target_modules", 'lora.targets, with model.tuning = "lora"'),
    ("use_rslora", "lora.rslora"),
    ("use_dora", "lora.dora"),
    ("init_lora_weights", "lora.init"),
    ("layers_to_transform", "lora.layers"),
    ("rank_pattern", "lora.ranks"),
    ("alpha_pattern", "lora.alphas"),
    ("loraplus_lr_ratio lora_plus_ratio", "train.lora_plus"),
    ("use_lora use_peft", 'model.tuning = "lora"'),
    ("peft_type", 'peft.method, with model.tuning = "peft"'),
    ("modules_to_save", "no setting here: the head always trains, and is saved with the adapter"),
    ("model_name_or_path pretrained_model_name_or_path pretrained_model_name pretrained_model "
     "model_name model_path bert_model bert_path bert transformer transformer_model base_model "
     "base_model_name_or_path checkpoint plm", "model.encoder"),
    ("tokenizer tokenizer_name tokenizer_name_or_path",
     "no setting here: the tokenizer is that of model.encoder"),
    ("gradient_accumulation_steps grad_accumulation_steps grad_accum accumulate_grad_batches "
     "accumulation_steps", "train.accumulate"),
    ("warmup_ratio warmup_proportion", "train.warmup"),
    ("warmup_steps num_warmup_steps",
     "train.warmup, a share of all steps: warm-up steps / all steps, e.g. 0.1"),
    ("lr_scheduler_type lr_scheduler scheduler lr_schedule scheduler_type", "train.schedule"),
    ("max_grad_norm gradient_clip_val gradient_clipping grad_clip clip clip_grad grad_norm",
     "train.clip_norm"),
    ("early_stopping_patience early_stopping early_stop", "train.patience, in epochs"),
    ("l2 wd", "train.weight_decay"),
    ("optim optimiser", "train.optimizer"),
    ("adam_epsilon adam_beta1 adam_beta2 betas eps",
     "no setting here: AdamW has PyTorch's defaults"),
    ("random_seed data_seed random_state", "run.seed"),
    ("no_cuda use_cpu use_cuda cuda gpu gpus accelerator", 'run.device = "cpu" or "cuda"'),
    ("num_threads n_jobs", "run.threads"),
    ("train_file train_data train_path train_data_file train_dataset training_data", "data.train"),
    ("validation_file valid_file dev_file eval_file validation_data dev_data dev_path valid_path "
     "validation valid eval_dataset val", "data.dev"),
    ("test_file test_data test_path test_dataset predict_file", "data.test"),
    ("data_dir dataset dataset_name data_path", "data.train, data.dev and data.test, a file each"),
    ("tag_scheme tagging_scheme label_scheme tag_format", "data.scheme"),
    ("use_crf crf use_crf_layer", 'model.decoder = "crf"'),
    ("hidden_dropout_prob attention_probs_dropout_prob hidden_dropout attention_dropout "
     "classifier_dropout dropout_rate dropout_prob", _DROPOUT),
    ("embedding_dim embedding_size char_embedding_dim emb_dim", "lstm.embedding_size"),
    ("hidden_dim lstm_hidden lstm_hidden_size", "lstm.hidden_size"),
    ("num_layers lstm_layers", "lstm.layers"),
    ("use_lstm use_bilstm", 'model.emitter = "lstm"'),
    ("freeze freeze_encoder freeze_bert freeze_base_model", 'model.tuning = "frozen"'),
    ("labels label_list num_labels id2label label2id label_names tags", _LABELS),
    ("save_steps", "train.checkpoint_steps"),
    ("eval_steps eval_strategy evaluation_strategy save_strategy load_best_model_at_end "
     "metric_for_best_model", _CHOSEN),
    ("report_to logging_dir", "train.tensorboard = true"),
    ("torch_compile", "train.compile"),
    ("overwrite_output_dir", "--overwrite, on the command line"),
    ("resume_from_checkpoint", "--resume, on the command line"),
    ("label_all_tokens label_all_subwords", 'model.pieces = "all"'),
    ("subtoken_pooling aggregation_strategy", 'model.pieces = "first"'),
)  # fmt: skip
# Where a key's section gives it another meaning than the same key has elsewhere.
_IN_SECTION = {
    "model.name": "model.encoder",
    "model.path": "model.encoder",
    "model.dropout": _DROPOUT,
    "train.dropout": _DROPOUT,
    "model.crf": 'model.decoder = "crf"',
    "model.lora": 'model.tuning = "lora", and its settings stand in [lora]',
    "peft.target_modules": "peft.targets",
    "peft.peft_type": "peft.method",
    **{
        f"peft.{key}": f"peft.options.{key} where the method has it; LoRA's own settings stand in "
        "[lora]"
        for key in ("r", "lora_alpha", "lora_dropout", "rank", "alpha", "dropout", "init_r",
                    "target_r", "num_virtual_tokens")
    },
}  # fmt: skip
_SECTIONS = {
    "training": "train", "trainer": "train", "optim": "train", "optimizer": "train",
    "hyperparameters": "train", "dataset": "data", "corpus": "data", "encoder": "model",
    "bert": "model", "adapter": "lora", "bilstm": "lstm", "general": "run",
}  # fmt: skip
_PRETRAINING: tuple[tuple[str, str], ...] = (
    ("lr learning_rate base_lr peak_lr max_lr adapter_lr", "rate"),
    ("muon_lr", "muon_rate"),
    ("num_train_epochs num_epochs max_epochs epochs max_steps num_steps steps train_steps",
     "tokens, the budget in tokens read"),
    ("per_device_train_batch_size train_batch_size batch_size bs",
     "batch_tokens, which counts tokens and not rows: rows × length"),
    ("gradient_accumulation_steps accumulate", "micro_tokens, the tokens that are on the device at "
     "once; batch_tokens is the whole step"),
    ("fp16 bf16 amp mixed_precision", 'precision = "bf16"'),
    ("output_dir save_dir out_dir dir", "output"),
    ("max_length max_seq_length max_len max_seq_len block_size seq_len", "length"),
    ("mlm_probability mask_prob masking_probability mask_ratio", "mask_share"),
    ("whole_word_mask wwm", 'masking = "word"'),
    ("r lora_r lora_rank rank", "adapter.rank"),
    ("lora_alpha alpha", "adapter.alpha"),
    ("target_modules targets", "adapter.targets"),
    ("use_lora", "lora = true"),
    ("model_name_or_path pretrained_model_name_or_path model_name model base_model", "encoder"),
    ("config_name model_type", "architecture, with from_scratch"),
    ("hidden_size", "hidden"),
    ("num_hidden_layers num_layers", "layers"),
    ("num_attention_heads num_heads", "heads"),
    ("vocab_size", "vocabulary"),
    ("warmup_ratio", "warmup"),
    ("warmup_steps", "warmup, a share of the budget"),
    ("max_grad_norm gradient_clip_val grad_clip", "clip_norm"),
    ("wd l2", "weight_decay"),
    ("optim", "optimizer"),
    ("random_seed", "seed"),
    ("train_file train_data train_path data", "files, the command's arguments"),
    ("save_steps", "checkpoint_steps"),
    ("torch_compile", "compile"),
    ("num_threads", "threads"),
    ("validation_split validation_split_percentage", "held_out"),
)  # fmt: skip

_TAGGER_NAMES = {name: answer for names, answer in _TAGGER for name in names.split()}
_PRETRAINING_NAMES = {name: answer for names, answer in _PRETRAINING for name in names.split()}

_TYPO = 0.8  # below, difflib finds other words rather than misspelt ones
_TYPO_ELSEWHERE = 0.85


def name_here(
    key: str, known: Mapping[str, Sequence[str]], section: str = "", value: Any = None
) -> str:
    """The end of a message about an unknown key of a recipe: what is meant, if it is clear.

    Args:
        key: as it was given.
        known: the keys of each section.
        section: where it was given; empty for the top level.
        value: what was given for it.
    """
    word = key.lower().replace("-", "_")
    answer = _IN_SECTION.get(f"{section}.{word}", "")
    same = " or ".join(f"{s}.{word}" for s, keys in known.items() if word in keys)
    if not answer and same:
        return f"; did you mean {same}?"
    if answer := answer or _TAGGER_NAMES.get(word, ""):
        return f"; it is {_filled(answer, value)}"
    own = list(known.get(section, ()))
    if found := nearest(word, own):
        return found
    elsewhere = {k: f"{s}.{k}" for s, keys in known.items() for k in keys}
    if close := difflib.get_close_matches(word, elsewhere, n=1, cutoff=_TYPO_ELSEWHERE):
        return f"; did you mean {elsewhere[close[0]]}?"
    if section == "peft":
        return "; known: " + ", ".join(own) + "; a method's own options stand in [peft.options]"
    return f"; known: {', '.join(own)}" if own else ""


def section_here(section: str, known: Sequence[str]) -> str:
    """The same of a section that is not known."""
    if meant := _SECTIONS.get(section.lower()):
        return f"; did you mean [{meant}]?"
    return nearest(section, known)


def pretraining_name_here(key: str, known: Sequence[str]) -> str:
    """The same of a setting of pre-training."""
    word = key.lower().replace("-", "_")
    if answer := _PRETRAINING_NAMES.get(word, ""):
        return f"; it is {answer}"
    return nearest(word, known)


def nearest(word: str, known: Sequence[str]) -> str:
    """The end of a message that names the known word of which this is a misspelling, if any."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=_TYPO)
    return f"; did you mean {found[0]}?" if found else ""


def _filled(answer: str, value: Any) -> str:
    count = value if type(value) is int and value > 0 else 32
    return answer.replace("{tokens}", str(40 * count)).replace("{n}", str(count))
