"""Encoders against each other and against the BiLSTM, on several data sets and training sizes.

    python benchmarks/encoders.py datasets [--old FOLDER] [--seeds 3] [--set train.precision=bf16]
    python benchmarks/encoders.py sizes [--seeds 3]
    python benchmarks/encoders.py adapt [--seeds 3]

`datasets`: peoples, weibo, resume and cluener (whose test labels are not public: its dev file is
scored, and the end of its training file chooses the epoch); BiLSTM, the bundled encoder and `--old`
(an encoder's folder), each tuned whole and with LoRA. `sizes`: peoples with its first 100, 400 and
all sentences.
`adapt`: the bundled encoder as it is, and after further pre-training on the text of all training
sentences, labels aside, then trained on 100, 400 and all of them. With fewer sentences each method
trains for more epochs, with more (resume) for fewer. Epochs are chosen on dev, test is scored
once. NERTUNE_DATA names the folder that holds the data. Finished runs are reused; hours on 2 cores.
JSON and Markdown go to benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from peoples import ROOT, without_paths

from nertune.data.corpus import load_corpus, save_documents

BUNDLED = "mini-zh"
# Epochs against those of the recipes for peoples, so that the numbers of steps are alike.
DATASETS = {"peoples": 1.0, "weibo": 1.0, "resume": 0.5, "cluener": 0.4}
HELD_OUT = 1000  # last sentences of cluener's training file, which choose the epoch
SIZES = {100: 6.0, 400: 3.0, 0: 1.0}  # sentences of peoples; 0: all
ADAPT_TOKENS = 1_000_000
OLD_RATES = {"full": "4e-4", "lora": "2e-3"}  # chosen on dev for `mini-zh` after stage 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("datasets", "sizes", "adapt"))
    parser.add_argument("--old", help="another encoder's folder; with `datasets`")
    parser.add_argument("--encoder", default=BUNDLED, help="in the place of the bundled one")
    parser.add_argument("--name", help="of the results, in the place of encoders, sizes or adapt")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="data sets or sizes; all by default")
    parser.add_argument(
        "--methods", nargs="*", help="of lstm, full, lora, full-crf; by default the first three"
    )
    parser.add_argument("--set", action="append", default=[], help="as of nertune compare")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "encoders")
    arguments = parser.parse_args()
    if arguments.part == "datasets":
        datasets(arguments)
    elif arguments.part == "sizes":
        sizes(arguments, own_methods(arguments), "sizes")
    else:
        adapted = adapt(arguments)
        sizes(arguments, {"full": BUNDLED, "adapted-full": str(adapted)}, "adapt")


def datasets(arguments: argparse.Namespace) -> None:
    """Every encoder on every data set."""
    methods = own_methods(arguments)
    if arguments.old:
        methods |= {"old-full": arguments.old, "old-lora": arguments.old}
    for name in arguments.only or DATASETS:
        files = cluener_files(arguments.output) if name == "cluener" else find_files(name)
        compare(arguments, f"encoders-{name}", methods, files, "lstm", longer=DATASETS[name])


def own_methods(arguments: argparse.Namespace) -> dict[str, str | None]:
    """BiLSTM and encoder, and what --methods names besides."""
    own = arguments.encoder
    methods = {"lstm": None, "full": own, "lora": own}
    return methods | {method: own for method in arguments.methods or () if method.endswith("-crf")}


def sizes(arguments: argparse.Namespace, methods: dict[str, str | None], part: str) -> None:
    """The same methods with ever more training sentences."""
    for size in [int(s) for s in arguments.only or SIZES]:
        files = find_files("peoples")
        if size:
            files["train"] = first_sentences(files["train"], size, arguments.output)
        name = f"{part}-{size or 'all'}"
        compare(arguments, name, methods, files, next(iter(methods)), longer=SIZES[size])


def adapt(arguments: argparse.Namespace) -> Path:
    """Go on with the bundled encoder on the training text; test text must not be in it."""
    output: Path = arguments.output / "adapted"
    files = find_files("peoples")
    if not (output / "record.json").exists():
        command = [sys.executable, "-m", "nertune", "pretrain", str(files["train"])]
        command += ["--encoder", BUNDLED, "--output", str(output), "--overwrite"]
        command += ["--tokens", str(ADAPT_TOKENS), "--exclude", str(files["test"])]
        command += ["--set", "rate=3e-4", "--set", "batch_tokens=2048"]
        subprocess.run(command, check=True)
    return output / "model"


def find_files(dataset: str, splits: Sequence[str] = ("train", "dev", "test")) -> dict[str, Path]:
    """The files of the splits, with or without a suffix."""
    data = os.environ.get("NERTUNE_DATA")
    if not data:
        sys.exit("set NERTUNE_DATA to the folder that holds peoples/, weibo/, resume/ and cluener/")
    folder = Path(data) / dataset
    found = {}
    for split in splits:
        paths = [p for p in (folder / split, folder / f"{split}.conll") if p.exists()]
        if not paths:
            sys.exit(f"{folder}: holds no {split} or {split}.conll")
        found[split] = paths[0]
    return found


def cluener_files(output: Path) -> dict[str, Path]:
    """Its dev file takes the place of a test file."""
    files = find_files("cluener", ("train", "dev"))
    cut = {"train": slice(-HELD_OUT), "dev": slice(-HELD_OUT, None)}
    found = {
        split: save_sentences(files["train"], part, output / "data" / f"cluener-{split}.conll")
        for split, part in cut.items()
    }
    return found | {"test": files["dev"]}


def first_sentences(path: Path, count: int, output: Path) -> Path:
    """The first sentences of a file, as a file of their own."""
    return save_sentences(path, slice(count), output / "data" / f"{path.parent.name}-{count}.conll")


def save_sentences(path: Path, part: slice, target: Path) -> Path:
    """Some sentences of a file, as a file of their own."""
    target.parent.mkdir(parents=True, exist_ok=True)
    save_documents(target, load_corpus(path).documents[part], format="conll")
    return target


def compare(
    arguments: argparse.Namespace,
    name: str,
    methods: dict[str, str | None],
    files: dict[str, Path],
    baseline: str,
    *,
    longer: float,
) -> None:
    """Train the methods, `longer` times the recipes' epochs, and write their comparison."""
    folder = arguments.output / name
    recipes = folder / "recipes"
    recipes.mkdir(parents=True, exist_ok=True)
    methods = {method: methods[method] for method in arguments.methods or methods}
    baseline = baseline if baseline in methods else next(iter(methods))
    for method, encoder in methods.items():
        source = ROOT / "recipes" / "peoples" / f"{recipe_of(method)}.toml"
        text = source.read_text(encoding="utf-8")
        if encoder is not None:
            text = text.replace(f'encoder = "{BUNDLED}"', f'encoder = "{encoder}"')
        if method.endswith("-crf"):
            text = text.replace('decoder = "softmax"', 'decoder = "crf"')
        if method.startswith("old-"):
            rate = OLD_RATES[recipe_of(method).replace("bert", "full")]
            text = re.sub(r"^learning_rate = \S+", f"learning_rate = {rate}", text, flags=re.M)
        text = re.sub(r"epochs = (\d+)", lambda m: f"epochs = {round(int(m[1]) * longer)}", text)
        (recipes / f"{method}.toml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "nertune", "compare"]
    command += [str(recipes / f"{method}.toml") for method in methods]
    command += ["--seeds", str(arguments.seeds), "--baseline", baseline]
    command += ["--output", str(folder), "--json"]
    for override in (*(f"data.{split}={path}" for split, path in files.items()), *arguments.set):
        command += ["--set", override]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    values = {"overrides": arguments.set, **json.loads(done.stdout)}
    report = json.dumps(values, ensure_ascii=False, indent=1) + "\n"
    table = (folder / "report.md").read_text(encoding="utf-8")
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    shown = name if arguments.name is None else f"{arguments.name}-{name.partition('-')[2]}"
    for suffix, content in ((".json", report), (".md", table)):
        path = results / f"{shown}{suffix}"
        named = {str(arguments.output): "runs/encoders"}
        if arguments.old:
            named[arguments.old.rstrip("/")] = "OLD"
        if arguments.encoder != BUNDLED:
            named[arguments.encoder.rstrip("/")] = "ENCODER"
        path.write_text(without_paths(content, named), encoding="utf-8")
    print(f"wrote benchmarks/results/{shown}.json", file=sys.stderr)


def recipe_of(method: str) -> str:
    """The shipped recipe that a method follows."""
    method = method.removesuffix("-crf").rpartition("-")[2]
    return {"lstm": "lstm", "full": "bert", "lora": "lora"}[method]


if __name__ == "__main__":
    main()
