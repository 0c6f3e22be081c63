"""Export a trained tagger, and hold what came of it against the original before it may be used.

tagger -> graph -> (int8) -> the same documents through all of them -> parity.json
"""

from __future__ import annotations

import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import nertune
from nertune.artifacts.load import EXPORT_FOLDER, EXPORTED
from nertune.artifacts.manifest import Manifest, own_folder, weight_hashes
from nertune.data.corpus import Corpus, Reading, load_alike
from nertune.data.samples import resolve_data
from nertune.errors import ArtifactError, ConfigError, ModelError
from nertune.evaluation.metrics import score
from nertune.inference.predictor import Predictor, load_model
from nertune.labels.align import spans_to_entities
from nertune.labels.schemes import TokenSpan
from nertune.models.heads.decoding import decode, span_probabilities
from nertune.models.onnx import (
    OnnxEmitter,
    has_int8_instructions,
    list_layers,
    quantize,
    write_onnx,
)
from nertune.models.tagger import Tagger
from nertune.storage.atomic import replace_folder, write_json
from nertune.storage.files import hash_file
from nertune.types import Document

__all__ = ["Agreement", "compare_entities", "cut_all_lengths", "export"]

_TIE = 1e-4  # probabilities that differ by less are equal but for rounding
_ROUNDING = 1e-3  # nats: so far may float32 emissions lie apart
_MOST_SENSITIVITY = 64  # documents that tell which layer suffers most from int8
_MOST_TIMED = 400  # documents
_MOST_LISTED = 20

Emissions = Sequence[NDArray[np.floating[Any]]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Entities of two taggers that should be the same.

    Attributes:
        documents: that were compared.
        entities: that either of them found.
        equal: that both found.
        ties: found by one of them only, with equal probabilities under both: rounding decided.
            `[document, label, text, probability, the other's]`; the first few.
        num_ties: how many.
        differing: found by one of them only, with other probabilities.
        largest_difference: between the probabilities of an entity.
        largest_emission_difference: between the scores of any tag of any unit, in nats.
    """

    documents: int
    entities: int
    equal: int
    ties: tuple[tuple[str, str, str, float, float], ...]
    num_ties: int
    differing: int
    largest_difference: float
    largest_emission_difference: float

    @property
    def holds(self) -> bool:
        """Whether they are the same but for rounding."""
        return (
            not self.differing
            and self.largest_difference <= _TIE
            and self.largest_emission_difference <= _ROUNDING
        )


def export(
    model: str | Path,
    *,
    dev: str = "",
    int8: bool = False,
    tolerance: float = 0.3,
    rounds: int = 5,
    encoder: str | Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write a tagger's folder `onnx/`: `model.onnx`, `model-int8.onnx`, `parity.json`.

    The float32 graph must find every entity that the tagger finds. The int8 graph must not lose
    more than `tolerance`, with texts side by side and one by one (its scales follow from all that
    is computed together), and must be faster here; where it loses more, the layers that suffer most
    stay in float32, one after the other, up to half of them.

    Args:
        model: a folder that nertune wrote.
        dev: labelled documents to compare on; by default those that chose the model's epoch.
        int8: also write the graph whose matrix products are in int8.
        tolerance: points of micro-F1 that int8 may lose.
        rounds: how often each backend is timed, in turn.
        encoder: where an adapter's base encoder is now (`artifacts.load.load_tagger`).
        say: is told what happens, in one line each.

    Returns:
        What `parity.json` holds.

    Raises:
        ArtifactError: the float32 graph is not the tagger (`parity.json` says where), the model
            cannot be exported, or its folder not be written.
        ConfigError: there are no documents with entities to compare on.
        MissingDependencyError: the extra `onnx` is not installed.
    """
    folder = own_folder(str(model))
    if folder is None:
        raise ArtifactError(
            f"{model}: is not a folder that nertune wrote; only those can be exported (of another "
            "token-classification model, optimum's exporter makes an ONNX graph)"
        )
    predictor = load_model(folder, device="cpu", merge=True, encoder=encoder)
    manifest = predictor.manifest
    assert manifest is not None
    corpus = _documents(manifest, dev)
    target = folder / EXPORT_FOLDER
    for left in folder.glob(f".{EXPORT_FOLDER}-*"):  # of a killed export
        shutil.rmtree(left, ignore_errors=True)
    if (target / EXPORTED["onnx-int8"]).exists() and not int8:
        say(f"{EXPORTED['onnx-int8']} of an earlier export goes: give --int8 to make it again")
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{EXPORT_FOLDER}-", dir=folder))
        try:
            report = _export(predictor, corpus, draft, int8, tolerance, rounds, say)
            report["weights"] = weight_hashes(manifest)
            write_json(draft / "parity.json", report)
            draft.chmod(0o755)
            replace_folder(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written to: {error.strerror or error}") from error
    if not report["files"]:
        raise ArtifactError(
            f"{folder}: the exported graph is not the model: {report['onnx']['reason']}; nothing "
            f"was kept but {target / 'parity.json'}"
        )
    return report


def _documents(manifest: Manifest, dev: str) -> Corpus:
    """The labelled documents that decide whether an export may be used."""
    named = dev or str(manifest.settings.get("data", {}).get("dev", ""))
    if not named:
        raise ConfigError("the model was trained without data.dev: name labelled text with --dev")
    path = resolve_data(named)
    if not dev and not Path(path).exists():
        raise ConfigError(
            f"{named}, which chose the model's epoch, is not there: name labelled text with --dev"
        )
    settings = manifest.settings.get("data", {}) if not dev else {}
    kept = {k: settings[k] for k in ("format", "scheme", "join", "offsets") if k in settings}
    described = {} if dev else manifest.data.get("dev") or {}
    # As it was read then; any other file as the training file was.
    like = Reading.from_record(described) if described else manifest.reading
    corpus = load_alike(path, like, **kept)
    stated = described.get("sha256", corpus.sha256)
    if not dev and stated != corpus.sha256:
        raise ConfigError(
            f"{named} is not the file any more that chose the model's epoch (its sha256 differs): "
            "name labelled text with --dev"
        )
    if not corpus.num_entities:
        raise ConfigError(f"{named} holds no entity to compare on: name labelled text with --dev")
    return corpus


def _export(
    predictor: Predictor,
    corpus: Corpus,
    draft: Path,
    int8: bool,
    tolerance: float,
    rounds: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    say("tracing the model")
    graph = draft / EXPORTED["onnx"]
    write_onnx(predictor.tagger.emitter, graph)
    arms = {"torch": predictor}
    report: dict[str, Any] = {
        "nertune": nertune.__version__,
        "dev": {"path": str(corpus.path), "sha256": corpus.sha256,
                "documents": len(corpus.documents), "entities": corpus.num_entities},
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(),
                    "int8_instructions": has_int8_instructions(), "versions": _versions()},
        "files": {},
        "torch": {"f1": _f1(predictor, corpus)},
        "onnx": {"bytes": graph.stat().st_size},
    }  # fmt: skip
    texts = [*corpus.documents, *cut_all_lengths(predictor, corpus.documents)]
    try:
        exact = _with_graph(predictor, graph)
        agreement = compare_entities(predictor, exact, texts)
        report["onnx"] |= {"f1": _f1(exact, corpus), "agreement": asdict(agreement)}
    except (ModelError, ValueError) as error:  # it cannot compute some lengths, or gives NaN
        graph.unlink()
        report["onnx"] |= {"status": "refused", "reason": str(error)}
        return report
    say(
        f"float32: {agreement.equal} of {agreement.entities} entities the same, "
        f"{agreement.num_ties} ties, probabilities within {agreement.largest_difference:.1e}, "
        f"emissions within {agreement.largest_emission_difference:.1e} nats"
    )
    if not agreement.holds:
        graph.unlink()
        reason = (
            f"{agreement.differing} of {agreement.entities} entities differ, probabilities by up "
            f"to {agreement.largest_difference:.1e}, emissions by up to "
            f"{agreement.largest_emission_difference:.1e} nats"
        )
        report["onnx"] |= {"status": "refused", "reason": reason}
        return report
    arms["onnx"] = exact
    report["onnx"]["status"] = "exported"
    report["files"][graph.name] = hash_file(graph)
    if int8:
        try:
            small, report["onnx-int8"] = _export_int8(
                predictor, exact, corpus, draft, tolerance, rounds, say
            )
        except (ModelError, ValueError) as error:  # what is float32 stays
            small, report["onnx-int8"] = None, {"status": "refused", "reason": str(error)}
            say(f"int8 is refused: {error}")
            (draft / EXPORTED["onnx-int8"]).unlink(missing_ok=True)
        if small is not None:
            arms["onnx-int8"] = small
            report["files"][EXPORTED["onnx-int8"]] = hash_file(draft / EXPORTED["onnx-int8"])
    speeds = _speeds(arms, corpus.documents, rounds)
    for name, speed in speeds.items():
        report[name]["units_per_second"] = round(speed)
    return report


def _export_int8(
    predictor: Predictor,
    exact: Predictor,
    corpus: Corpus,
    draft: Path,
    tolerance: float,
    rounds: int,
    say: Callable[[str], None],
) -> tuple[Predictor | None, dict[str, Any]]:
    """The first int8 graph that is good enough and faster, with what was tried."""
    graph, target = draft / EXPORTED["onnx"], draft / EXPORTED["onnx-int8"]
    layers = list_layers(graph)
    order: list[str] = []
    attempts: list[dict[str, Any]] = []
    f1_exact = _f1(exact, corpus)
    if not f1_exact:
        raise ModelError("the model finds none of the entities, so what int8 loses is not known")
    for count in range(len(layers) // 2 + 1):
        if count == 1:
            say("looking for the layers that suffer most from int8")
            order = _sensitive_layers(exact, graph, draft, layers, corpus.documents)
        left_out = order[:count]
        nodes = [node for layer in left_out for node in layers[layer]]
        quantize(graph, target, leave_out=nodes)
        small = _with_graph(predictor, target)
        side_by_side = _f1(small, corpus)
        one_by_one = _f1(small, corpus, one_by_one=True)
        f1 = min(side_by_side, one_by_one)
        lost = 100 * (f1_exact - f1)
        speeds = _speeds({"onnx": exact, "onnx-int8": small}, corpus.documents, rounds)
        ratio = speeds["onnx-int8"] / speeds["onnx"]
        attempts.append({
            "left_out": [_layer_name(x) for x in left_out], "f1": side_by_side,
            "f1_one_by_one": one_by_one, "points_lost": lost, "speed_against_float32": ratio,
        })  # fmt: skip
        without = f" without {', '.join(attempts[-1]['left_out'])}" if left_out else ""
        say(f"int8{without}: F1 {f1:.4f} ({-lost:+.2f} points), {ratio:.2f} x float32's speed")
        if ratio <= 1:
            break  # with more layers in float32 it would be slower still
        if lost <= tolerance:
            agreement = compare_entities(predictor, small, corpus.documents)
            return small, {
                "status": "exported", "f1": side_by_side, "f1_one_by_one": one_by_one,
                "bytes": target.stat().st_size, "tolerance_points": tolerance, "attempts": attempts,
                "agreement": asdict(agreement),
            }  # fmt: skip
    target.unlink(missing_ok=True)
    reason = (
        "it is not faster than float32 on this machine"
        if attempts[-1]["speed_against_float32"] <= 1
        else f"it loses more than {tolerance:g} points even with half of the layers in float32"
    )
    say(f"int8 is refused: {reason}")
    return None, {"status": "refused", "reason": reason, "f1": attempts[-1]["f1"],
                  "tolerance_points": tolerance, "attempts": attempts}  # fmt: skip


def _layer_name(layer: str) -> str:
    return f"layer {layer}" if layer else "what is in no layer"


def _sensitive_layers(
    exact: Predictor,
    graph: Path,
    draft: Path,
    layers: Mapping[str, Sequence[str]],
    documents: Sequence[Document],
) -> list[str]:
    """Layers by how much the emissions change when they alone are in int8; the worst first."""
    some = documents[:_MOST_SENSITIVITY]
    _, expected = exact.emissions(some)
    trial = draft / "trial.onnx"
    change = {}
    for layer in layers:
        others = [node for other, nodes in layers.items() if other != layer for node in nodes]
        quantize(graph, trial, leave_out=others)
        _, found = _with_graph(exact, trial).emissions(some)
        squares = [float(((a - b) ** 2).sum()) for a, b in zip(expected, found, strict=True)]
        change[layer] = sum(squares)
    trial.unlink(missing_ok=True)
    return sorted(change, key=lambda layer: -change[layer])


def _with_graph(predictor: Predictor, graph: Path) -> Predictor:
    tagger = Tagger(OnnxEmitter(graph), predictor.tagger.decoder)
    return Predictor(
        tagger.eval(), predictor.segmenter, predictor.tagset, batch_tokens=predictor.batch_tokens
    )


def cut_all_lengths(
    predictor: Predictor, documents: Sequence[Document], *, num_windows: int = 3
) -> list[Document]:
    """Texts of 1, 2, 4, … units, and one of several windows, cut from documents put together.

    Where the documents are too short for that, they are repeated. There are no texts where that
    gives no more units: the model reads none in them, or only marks that go together.
    """
    segmenter = predictor.segmenter
    joint = " " if segmenter.unit == "word" else ""
    text = joint.join(document.text for document in documents)
    encoding, windows = segmenter.segment(Document(text))
    while len(windows) < num_windows:
        text += joint + text
        num_units = len(encoding.units)
        encoding, windows = segmenter.segment(Document(text))
        if len(encoding.units) <= num_units:
            return []
    longest = windows[num_windows - 1].first_unit + windows[num_windows - 1].num_units
    lengths = [2**power for power in range(longest.bit_length()) if 2**power < longest]
    ends = [(length, encoding.units[length - 1][1]) for length in (*lengths, longest)]
    return [Document(text[:end], id=f"{length} units") for length, end in ends]


def compare_entities(one: Predictor, other: Predictor, documents: Sequence[Document]) -> Agreement:
    """What two taggers with the same tags find in documents."""
    encodings, emissions = one.emissions(documents)
    _, others = other.emissions(documents)
    found = _spans(one, emissions)
    found_by_other = _spans(other, others)
    union = [sorted({*a, *b}) for a, b in zip(found, found_by_other, strict=True)]
    chances = span_probabilities(emissions, union, one.tagger.chain())
    chances_of_other = span_probabilities(others, union, other.tagger.chain())
    equal = differing = 0
    largest = 0.0
    pairs = zip(emissions, others, strict=True)
    apart = max((float(np.abs(a - b).max()) for a, b in pairs if a.size), default=0.0)
    ties: list[tuple[str, str, str, float, float]] = []
    for i, document in enumerate(documents):
        entities = spans_to_entities(union[i], encodings[i].units)
        for span, entity, p, q in zip(
            union[i], entities, chances[i], chances_of_other[i], strict=True
        ):
            largest = max(largest, abs(p - q))
            if span in found[i] and span in found_by_other[i]:
                equal += 1
            elif abs(p - q) <= _TIE:
                ties.append((document.id, entity.label, document.surface(entity), p, q))
            else:
                differing += 1
    return Agreement(
        documents=len(documents),
        entities=sum(map(len, union)),
        equal=equal,
        ties=tuple(ties[:_MOST_LISTED]),
        num_ties=len(ties),
        differing=differing,
        largest_difference=largest,
        largest_emission_difference=apart,
    )


def _spans(predictor: Predictor, emissions: Emissions) -> list[list[TokenSpan]]:
    return [spans for spans, _ in decode(emissions, predictor.tagger.chain(), with_scores=False)]


def _f1(predictor: Predictor, corpus: Corpus, *, one_by_one: bool = False) -> float:
    documents = corpus.documents
    groups = [[document] for document in documents] if one_by_one else [documents]
    predicted = [
        found for group in groups for found in predictor.tag_documents(group, with_scores=False)
    ]
    return score(corpus.documents, predicted, num_resamples=0).micro.f1 or 0.0


def _speeds(
    arms: Mapping[str, Predictor], documents: Sequence[Document], rounds: int
) -> dict[str, float]:
    """Units per second of each, the median of several rounds in which they take turns."""
    some = documents[:_MOST_TIMED]
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    units = 0
    for round_number in range(rounds + 1):
        for name, predictor in arms.items():
            started = time.perf_counter()
            encodings, _ = predictor.emissions(some)
            if round_number:  # the first one warms up
                seconds[name].append(time.perf_counter() - started)
            units = sum(len(encoding.units) for encoding in encodings)
    return {name: units / statistics.median(taken) for name, taken in seconds.items()}


def _versions() -> dict[str, str]:
    import onnx
    import onnxruntime

    return {"torch": torch.__version__, "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__}  # fmt: skip
