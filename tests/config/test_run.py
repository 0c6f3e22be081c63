"""Settings: every mistake is named with its key, and every shipped recipe is sound."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from nertune.config.run import Settings, load_settings, parse_settings, with_changes
from nertune.data.samples import resolve_data
from nertune.errors import ConfigError

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = sorted(RECIPES.rglob("*.toml"))
DATA: dict[str, Any] = {"data": {"train": "sample:train"}}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe with nothing but a training file."""
    path = tmp_path / "my-run.toml"
    path.write_text('[data]\ntrain = "sample:train"\n', encoding="utf-8")
    return path


def refused(values: Any, *, source: str = "r.toml") -> str:
    with pytest.raises(ConfigError) as caught:
        parse_settings(values, source=source)
    message = str(caught.value)
    assert message.startswith(f"{source}: ")
    assert "\n" not in message
    return message.removeprefix(f"{source}: ")


# -- defaults ----------------------------------------------------------------------------------


def test_only_the_training_file_is_needed(recipe: Path) -> None:
    settings = load_settings(recipe)
    assert settings.run.name == "my-run"
    assert settings.run.dir == Path("runs/my-run")
    assert settings.run.seed == 987
    assert settings.model.emitter == "encoder"
    assert settings.data.dev == ""


def test_a_run_may_be_named(recipe: Path) -> None:
    assert load_settings(recipe, ["run.name=other"]).run.dir == Path("runs/other")
    placed = load_settings(recipe, ["run.name=other", "run.dir=/tmp/x"]).run
    assert (placed.name, placed.dir) == ("other", Path("/tmp/x"))
    # An emptied name must not make runs/ itself the run's folder.
    emptied = load_settings(recipe, ["run.name=", "run.dir="]).run
    assert (emptied.name, emptied.dir) == ("my-run", Path("runs/my-run"))


def test_settings_cannot_be_changed(recipe: Path) -> None:
    settings = load_settings(recipe)
    with pytest.raises(ValueError, match="frozen"):
        settings.train.epochs = 3  # type: ignore[misc]


def test_plain_values_read_back_as_the_same_settings(recipe: Path) -> None:
    """What a record keeps is enough to run again."""
    overrides = ["lora.layers=[0, -1]", 'lora.ranks={"0" = 4}', "train.head_learning_rate=1e-4"]
    settings = load_settings(recipe, overrides)
    assert Settings.model_validate(settings.to_dict()) == settings
    assert settings.to_dict()["run"]["dir"] == "runs/my-run"


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"train": {"epoch": 3}}, "unknown key train.epoch; did you mean epochs?"),
        ({"train": {"rank": 3}}, "unknown key train.rank; did you mean lora.rank?"),
        (
            {"model": {"dropout": 0}},
            "unknown key model.dropout; it is no setting here: an encoder keeps the dropout of its "
            "config.json; a BiLSTM's is lstm.dropout, LoRA's lora.dropout",
        ),
        (
            {"model": {"lora_rank": 3}},
            'unknown key model.lora_rank; it is lora.rank, with model.tuning = "lora"',
        ),
        ({"lora": {"target": ["query"]}}, "unknown key lora.target; did you mean targets?"),
        ({"run": {"xyzzy": 1}}, "unknown key run.xyzzy; known: name, dir, seed, device, threads"),
        ({"trian": {}}, "unknown section [trian]; did you mean train?"),
        ({"xyzzy": {}}, "unknown section [xyzzy]"),
        ({"epochs": 3}, "unknown setting epochs, outside of a section; did you mean train.epochs?"),
        ({"xyzzy": 3}, "unknown setting xyzzy, outside of a section"),
        ({"train": 3}, "train must be a section: write [train]"),
        ({"data": []}, "data must be a section: write [data]"),
    ],
)
def test_unknown_keys_are_named_with_the_nearest(values: dict[str, Any], expected: str) -> None:
    assert refused({**DATA, **values}) == expected


@pytest.mark.parametrize(
    ("section", "key", "value", "fragment"),
    [
        ("train", "epochs", 0, "greater than or equal to 1, got 0"),
        (
            "train",
            "epochs",
            "many",
            "valid integer, unable to parse string as an integer, got 'many'",
        ),
        ("train", "epochs", 2.5, "got 2.5"),
        ("train", "learning_rate", 0, "greater than 0, got 0"),
        ("train", "learning_rate", 11, "less than or equal to 10, got 11"),
        ("train", "learning_rate", float("nan"), "got nan"),
        ("train", "warmup", 1, "less than 1, got 1"),
        ("train", "optimizer", "lion", "'adamw', 'adam' or 'sgd', got 'lion'"),
        ("train", "head_learning_rate", -1, "got -1"),
        ("run", "seed", -1, "got -1"),
        ("run", "seed", 2**32, f"got {2**32}"),
        ("run", "device", "gpu", "got 'gpu'"),
        ("run", "name", 3, "valid string, got 3"),
        ("run", "name", False, "valid string, got False"),
        ("model", "emitter", "gru", "'encoder' or 'lstm', got 'gru'"),
        ("model", "unit", None, "got None"),
        ("model", "stride", -2, "got -2"),
        ("lstm", "dropout", 1.0, "less than 1, got 1.0"),
        ("lora", "rank", 0, "got 0"),
        ("lora", "targets", [], "at least 1 item"),
        ("lora", "targets", "query", "got 'query'"),
        ("lora", "targets", [1], "valid string, got 1"),
        ("lora", "layers", "top-0", 'expected "all", "top-K", "bottom-K" or a list'),
        ("lora", "layers", "middle-2", "got 'middle-2'"),
        ("lora", "layers", [], 'expected "all", "top-K", "bottom-K" or a list'),
        ("lora", "layers", ["a"], "or a list of layer numbers, got ['a']"),
        ("lora", "layers", [True], "or a list of layer numbers, got [True]"),
        ("lora", "layers", 2, "or a list of layer numbers, got 2"),
        ("lora", "ranks", {"first": 4}, 'expected layer = number, e.g. "3" = 16'),
        ("lora", "ranks", {"-1": 4}, "expected layer = number"),
        ("lora", "ranks", {"1": 0}, "expected layer = number"),
        ("lora", "ranks", {"1": "x"}, "got 'x'"),
        ("data", "train", 3, "expected a file, or a list of tables with file, map, labels, got 3"),
        ("data", "scheme", "BIO2", "got 'BIO2'"),
    ],
)
def test_values_out_of_range_are_named(section: str, key: str, value: Any, fragment: str) -> None:
    values = {**DATA, section: {**DATA.get(section, {}), key: value}}
    message = refused(values)
    assert message.startswith(f"{section}.{key}: ")
    assert fragment in message


@pytest.mark.parametrize("values", [{}, {"data": {}}, {"data": {"dev": "x"}, "run": {"seed": 1}}])
def test_a_missing_training_file_is_named(values: dict[str, Any]) -> None:
    assert refused(values) == (
        "data.train is missing; set it in the recipe or with --set data.train=…"
    )


@pytest.mark.parametrize(
    ("model", "fragment"),
    [
        ({"decoder": "crf", "pieces": "all"}, 'use pieces = "first" or decoder = "softmax"'),
        ({"emitter": "lstm", "tuning": "lora"}, 'tuning = "lora" needs emitter = "encoder"'),
        ({"emitter": "lstm", "tuning": "frozen"}, 'tuning = "frozen" needs emitter = "encoder"'),
    ],
)
def test_settings_that_contradict_each_other(model: dict[str, Any], fragment: str) -> None:
    message = refused({**DATA, "model": model})
    assert message.startswith("model: ")
    assert fragment in message


def test_settings_that_look_alike_but_go_together() -> None:
    model = {"decoder": "softmax", "pieces": "all"}
    assert parse_settings({**DATA, "model": model}).model.pieces == "all"
    lstm = {"emitter": "lstm", "decoder": "crf", "tuning": "full"}
    assert parse_settings({**DATA, "model": lstm}).model.decoder == "crf"


def test_layers_of_ranks_have_one_spelling() -> None:
    ranks = parse_settings({**DATA, "lora": {"ranks": {"03": 16, "1": 2}}}).lora.ranks
    assert ranks == {"3": 16, "1": 2}


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"[data\n", "not a TOML file"),
        (b'[data]\ntrain = "\xff"\n', "not a TOML file"),
        (b"[data]\ntrain = x\n", "not a TOML file"),
        (b"[data]\n[data]\n", "not a TOML file"),
    ],
)
def test_recipes_that_are_no_toml(tmp_path: Path, content: bytes, fragment: str) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=fragment) as caught:
        load_settings(path)
    assert str(caught.value).startswith(f"{path}:")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (r'train = "C:\data\train.conll"', "Unescaped"),
        (r'train = "C:\Users\me\train.conll"', "not a TOML file"),
        # These are TOML, but of other paths: \t is a tab, \n a line break.
        (r'train = "C:\temp\new\train.conll"', "control characters"),
        (r'dev = "C:\news\train.conll"', "control characters"),
        ("train = 'x'\n\n[run]\ndir = \"D:\\runs\\new\"", ""),
    ],
)
def test_backslashes_of_windows_are_explained(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "win.toml"
    path.write_text(f"# a recipe\n[data]\n{line}\n")
    with pytest.raises(ConfigError, match=r"in single quotes.*or with forward slashes") as caught:
        load_settings(path)
    assert str(caught.value).startswith(f"{path}:{6 if 'run' in line and not told else 3}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["C:/data/x", "數據/a\u3000b", "a b"])
def test_other_paths_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(f'[data]\ntrain = "{name}"\n', encoding="utf-8")
    assert load_settings(path).data.train == name


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot read the recipe: No such file"):
        load_settings(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot read the recipe: Is a directory"):
        load_settings(tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[data]\ntrain = "数据"\n', encoding="utf-8-sig")
    assert load_settings(path).data.train == "数据"


# -- overrides ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "section", "key", "expected"),
    [
        ("train.epochs=5", "train", "epochs", 5),
        ("train.epochs = 5", "train", "epochs", 5),
        (" train.learning_rate=1e-4", "train", "learning_rate", 1e-4),
        ("train.tensorboard=true", "train", "tensorboard", True),
        ("model.encoder=some-owner/bert", "model", "encoder", "some-owner/bert"),
        ('model.encoder="mini-zh"', "model", "encoder", "mini-zh"),
        ("data.dev=", "data", "dev", ""),
        ("data.dev=a=b.jsonl", "data", "dev", "a=b.jsonl"),
        ("data.dev=./数据/开发 集.txt", "data", "dev", "./数据/开发 集.txt"),
        ("data.dev=sample:dev", "data", "dev", "sample:dev"),
        ("lora.layers=top-2", "lora", "layers", "top-2"),
        ("lora.layers=[0, 2]", "lora", "layers", (0, 2)),
        ('lora.targets=["query"]', "lora", "targets", ("query",)),
        ("lora.ranks={3 = 16}", "lora", "ranks", {"3": 16}),
        ("lora.ranks.3=16", "lora", "ranks", {"3": 16}),
        ('lora.ranks."3" = 16', "lora", "ranks", {"3": 16}),
        ("peft.options.r=4", "peft", "options", {"r": 4}),
        ('peft.options."a.b".c=[1]', "peft", "options", {"a.b": {"c": [1]}}),
        ("'peft'.options.r=x", "peft", "options", {"r": "x"}),
        (r"data.dev=C:\new\dev.conll", "data", "dev", r"C:\new\dev.conll"),
        ("run.name=a#b", "run", "name", "a#b"),
        ("run.dir=~/x", "run", "dir", Path("~/x")),
    ],
)  # fmt: skip
def test_overrides(recipe: Path, override: str, section: str, key: str, expected: Any) -> None:
    settings = load_settings(recipe, [override])
    assert getattr(getattr(settings, section), key) == expected


def test_the_last_override_wins_over_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[data]\ntrain = "a"\n[train]\nepochs = 7\nlearning_rate = 2e-3\n')
    settings = load_settings(path, ["train.epochs=8", "train.epochs=9"])
    assert (settings.train.epochs, settings.train.learning_rate) == (9, 2e-3)


@pytest.mark.parametrize(
    "override",
    [
        "epochs=5",
        "train.epochs",
        "train.=5",
        "",
        "=",
        "train=5",
        ".epochs=5",
        "train..epochs=5",
        "train.a b=5",
        "train.x\ny=5",
    ],
)
def test_overrides_of_the_wrong_form_are_shown_the_right_one(recipe: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=r"e\.g\. --set train\.epochs=5") as caught:
        load_settings(recipe, [override])
    assert repr(override) in str(caught.value)


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("train.epoch=5", "unknown key train.epoch; did you mean epochs?"),
        ("lora.rnks.3=16", r"unknown key lora.rnks; did you mean ranks?"),
        ("lora.ranks.x=16", r"lora.ranks: 'x' = 16: expected layer = number"),
        ("train.epochs.x=5", "train.epochs: .*got a section"),
        ('data.train="C:\\data\\x"', "not a string of TOML: .*in single quotes"),
        ("train.epochs=", "train.epochs: .*got ''"),
        ("train.epochs=five", "train.epochs: .*got 'five'"),
        ("run.name=2024", "run.name: .*valid string, got 2024"),
    ],
)
def test_overrides_are_checked_as_the_recipe_is(recipe: Path, override: str, fragment: str) -> None:
    with pytest.raises(ConfigError, match=fragment):
        load_settings(recipe, [override])


def test_overrides_of_what_is_no_section(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("train = 3\n")
    with pytest.raises(ConfigError, match="train is not a section but a value, 3"):
        load_settings(path, ["train.epochs=5"])
    path.write_text("[train]\nepochs = 3\n")
    with pytest.raises(ConfigError, match=r"train\.epochs is not a section but a value, 3"):
        load_settings(path, ["train.epochs.x=5"])
    with pytest.raises(ConfigError, match=r"train\.epochs is not a section but a value, 3"):
        with_changes({"train": {"epochs": 3}}, {"train.epochs.x": 5})


def test_overrides_reach_into_what_the_recipe_has(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[data]\ntrain = "a"\n[lora]\nranks = {1 = 2}\n[peft.options]\nr = 1\nd = 2\n')
    settings = load_settings(path, ["lora.ranks.3=16", "peft.options.r=4"])
    assert settings.lora.ranks == {"1": 2, "3": 16}
    assert settings.peft.options == {"r": 4, "d": 2}


# -- environment variables ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "written", "expected"),
    [
        (None, "${NERTUNE_DATA:-../data}/peoples/train", "../data/peoples/train"),
        ("", "${NERTUNE_DATA:-../data}/peoples/train", "../data/peoples/train"),
        ("/x", "${NERTUNE_DATA:-../data}/peoples/train", "/x/peoples/train"),
        ("/x/", "${NERTUNE_DATA:-../data}/peoples/train", "/x/peoples/train"),
        ("/", "${NERTUNE_DATA:-../data}/peoples/train", "/peoples/train"),
        # The variable may name the sub-folder itself …
        ("/x/peoples", "${NERTUNE_DATA:-../data}/peoples/train", "/x/peoples/train"),
        ("/x/peoples/", "${NERTUNE_DATA}/peoples/train", "/x/peoples/train"),
        # … but neither half a name nor the file.
        ("/x/mypeoples", "${NERTUNE_DATA}/peoples/train", "/x/mypeoples/peoples/train"),
        ("/x/train", "${NERTUNE_DATA}/train", "/x/train/train"),
        ("/x/msra", "${NERTUNE_DATA}/peoples/train", "/x/msra/peoples/train"),
        ("/x/", "${NERTUNE_DATA}train", "/x/train"),
        (None, "${NERTUNE_DATA:-}train", "train"),
        ("a", "${NERTUNE_DATA}-${NERTUNE_DATA:-b}", "a-a"),
        ("a", "$NERTUNE_DATA/{x}", "$NERTUNE_DATA/{x}"),
        ("数据", "${NERTUNE_DATA}/x/训练", "数据/x/训练"),
    ],
)
def test_variables_are_filled_in(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, written: str, expected: str
) -> None:
    if variable is None:
        monkeypatch.delenv("NERTUNE_DATA", raising=False)
    else:
        monkeypatch.setenv("NERTUNE_DATA", variable)
    data = {"train": written, "dev": written, "test": written}
    settings = parse_settings({"data": data, "lstm": {"chars": written}})
    found = settings.data
    assert [found.train, found.dev, found.test, settings.lstm.chars] == [expected] * 4


@pytest.mark.parametrize("key", ["data.train", "lstm.chars"])
def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    section, _, name = key.partition(".")
    values = {**DATA, section: {name: "${NO_SUCH_VARIABLE}/x/y"}}
    message = refused(values)
    assert message.startswith(f"{key}: environment variable NO_SUCH_VARIABLE is not set")


# -- shipped recipes ---------------------------------------------------------------------------


def test_the_recipes_are_found() -> None:
    assert len(SHIPPED) >= 10


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.relative_to(RECIPES).as_posix())
def test_every_shipped_recipe_loads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NERTUNE_DATA", raising=False)
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    for section, content in values.items():
        known = Settings.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
        assert set(content) <= set(known), section
    settings = load_settings(path)
    assert settings.run.name == path.stem
    # A recipe says nothing about what it does not use.
    assert "lora" not in values or settings.model.tuning == "lora"
    assert "lstm" not in values or settings.model.emitter == "lstm"
    for split in ("train", "dev", "test"):
        name = getattr(settings.data, split)
        assert name
        if name.startswith("sample:"):
            assert Path(resolve_data(name)).is_file()


def test_shipped_recipes_differ_in_the_tagger_only() -> None:
    """Configurations that are compared must read the same data."""
    for folder in {path.parent for path in SHIPPED}:
        recipes = [load_settings(path) for path in sorted(folder.glob("*.toml"))]
        assert len({recipe.data.model_dump_json() for recipe in recipes}) == 1
        taggers = {(str(a.model), str(a.lora), str(a.peft), a.train.lora_plus) for a in recipes}
        assert len(taggers) == len(recipes)
