"""Export a trained tagger, and hold what came of it against the original before it may be used.

tagger -> graph -> (int8) -> the same documents through all of them -> parity.json
"""

from __future__ import annotations

import logging
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import nertune
from nertune.artifacts.exported import graph_tagger
from nertune.artifacts.graphs import EXPORT_FOLDER, EXPORTED, PARITY
from nertune.artifacts.manifest import MANIFEST, Manifest, own_folder, parse_manifest, weight_hashes
from nertune.data.corpus import Corpus, Reading, load_with
from nertune.data.formats.base import ReadOptions
from nertune.data.samples import resolve_data
from nertune.errors import ArtifactError, ConfigError, ModelError
from nertune.export.parity import (
    compare_entities,
    cut_all_lengths,
    measure_speeds,
    micro_f1,
)
from nertune.inference.predictor import Predictor, load_model
from nertune.models.graphs.emitter import GraphEmitter
from nertune.models.graphs.onnx import Backend, OnnxEmitter
from nertune.models.graphs.openvino import openvino_precision
from nertune.models.graphs.processor import has_bf16_instructions, has_int8_instructions
from nertune.models.graphs.quantization import list_layers, quantize
from nertune.models.graphs.tracing import write_onnx
from nertune.storage.atomic import replace_folder, write_json
from nertune.storage.files import hash_file
from nertune.tokens.plain import is_plain
from nertune.tokens.tokenizer import EncoderTokenizer

__all__ = ["export"]

_LOG = logging.getLogger("nertune")

_MOST_SENSITIVITY = 64  # documents that tell which layer suffers most from int8


def export(
    model: str | Path,
    *,
    dev: str = "",
    int8: bool = False,
    openvino: bool = False,
    tolerance: float = 0.3,
    rounds: int = 5,
    encoder: str | Path | None = None,
) -> dict[str, Any]:
    """Write a tagger's folder `onnx/`: `model.onnx`, `model-int8.onnx`, `parity.json`.

    The float32 graph must find every entity that the tagger finds. int8, and OpenVINO in bfloat16,
    must not lose more than `tolerance`, with texts side by side and one by one, and must be faster
    here; where int8 loses more, up to half of the layers stay in float32, the worst first.

    Args:
        model: a folder that nertune wrote.
        dev: labelled documents to compare on; by default those that chose the model's epoch.
        int8: also write the graph whose matrix products are in int8.
        openvino: also hold against the tagger what OpenVINO makes of the float32 graph.
        tolerance: points of micro-F1 that int8 and bfloat16 may lose.
        rounds: how often each backend is timed, in turn.
        encoder: where an adapter's base encoder is now (`artifacts.load.load_tagger`).

    Returns:
        What `parity.json` holds.

    Raises:
        ArtifactError: the float32 graph is not the tagger, or the folder cannot be written to.
        ConfigError: there are no documents with entities to compare on.
        MissingDependencyError: the extra `onnx`, or `openvino`, is not installed.
    """
    if openvino:
        openvino_precision()  # or say at once that it is not installed
    folder = _own_folder(model)
    manifest = parse_manifest(folder / MANIFEST)  # refuses an extended model, which has several
    predictor = load_model(folder, device="cpu", merge=True, encoder=encoder)
    corpus = _documents(manifest, dev)
    if (folder / EXPORT_FOLDER / EXPORTED["onnx-int8"]).exists() and not int8:
        _LOG.info(
            "%s", f"{EXPORTED['onnx-int8']} of an earlier export goes: give --int8 to make it again"
        )
    try:
        with _draft(folder) as draft:
            exporter = _Exporter(predictor, folder, manifest, corpus, draft, tolerance, rounds)
            report = exporter.run(int8=int8, openvino=openvino)
            report |= {"weights": weight_hashes(manifest)}
            write_json(draft / PARITY, report)
            replace_folder(draft, folder / EXPORT_FOLDER)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written to: {error.strerror or error}") from error
    if not report["files"]:
        raise ArtifactError(
            f"{folder}: the exported graph is not the model: {report['onnx']['reason']}; nothing "
            f"was kept but {folder / EXPORT_FOLDER / PARITY}"
        )
    return report


def _own_folder(model: str | Path) -> Path:
    folder = own_folder(str(model))
    if folder is None:
        raise ArtifactError(
            f"{model}: is not a folder that nertune wrote; only those can be exported (of another "
            "token-classification model, optimum's exporter makes an ONNX graph)"
        )
    return folder


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A folder beside `onnx/` to write into, which is gone afterwards unless it was moved."""
    for left in folder.glob(f".{EXPORT_FOLDER}-*"):  # of a killed export
        shutil.rmtree(left, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{EXPORT_FOLDER}-", dir=folder))
    draft.chmod(0o755)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


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
    kept = {k: settings[k] for k in ("scheme", "join", "offsets") if k in settings}
    described = {} if dev else manifest.data.get("dev") or {}
    # As it was read then; any other file as the training file was.
    like = Reading.from_record(described) if described else manifest.reading
    options = ReadOptions(**kept, like=like, more=settings.get("options", {}))
    corpus = load_with(path, options, format=settings.get("format", "auto"))
    stated = described.get("sha256", corpus.sha256)
    if not dev and stated != corpus.sha256:
        raise ConfigError(
            f"{named} is not the file any more that chose the model's epoch (its sha256 differs): "
            "name labelled text with --dev"
        )
    if not corpus.num_entities:
        raise ConfigError(f"{named} holds no entity to compare on: name labelled text with --dev")
    return corpus


@dataclass(frozen=True, slots=True)
class _Exporter:
    """Writes the graphs of a tagger into a draft, and holds each against the tagger.

    Attributes:
        predictor: the tagger.
        folder, manifest: of the tagger.
        corpus: labelled documents to compare on.
        draft: the folder that is written to.
        tolerance: points of micro-F1 that int8 and bfloat16 may lose.
        rounds: how often each backend is timed.
    """

    predictor: Predictor
    folder: Path
    manifest: Manifest
    corpus: Corpus
    draft: Path
    tolerance: float
    rounds: int

    def run(self, *, int8: bool, openvino: bool) -> dict[str, Any]:
        """Write what holds; the report names its files, and the fastest backend."""
        corpus = self.corpus
        report: dict[str, Any] = {
            "nertune": nertune.__version__,
            "dev": {"path": str(corpus.path), "sha256": corpus.sha256,
                    "documents": len(corpus.documents), "entities": corpus.num_entities},
            "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(),
                        "int8_instructions": has_int8_instructions(),
                        "bf16_instructions": has_bf16_instructions(), "versions": _versions()},
            "files": {},
            "plain_tokenizer": self._is_plain(),
            "torch": {"f1": micro_f1(self.predictor, corpus)},
        }  # fmt: skip
        exact, report["onnx"] = self._export_exact()
        if exact is None:
            return report
        backends: dict[Backend, Predictor] = {"torch": self.predictor, "onnx": exact}
        if int8:
            small, report["onnx-int8"] = self._export_int8(exact)
            if small is not None:
                backends["onnx-int8"] = small
        if openvino:
            rounded, report["openvino"] = self._try_openvino(exact)
            if rounded is not None:
                backends["openvino"] = rounded
        made = {self._graph(backend) for backend in EXPORTED if backend in backends}
        report["files"] = {graph.name: hash_file(graph) for graph in sorted(made)}
        speeds = measure_speeds(backends, corpus.documents, self.rounds)
        for name, speed in speeds.items():
            report[name]["units_per_second"] = round(speed)
        report["fastest"] = max(speeds, key=lambda name: speeds[name])
        return report

    def _is_plain(self) -> bool:
        tokenizer = self.predictor.segmenter.tokenizer
        return isinstance(tokenizer, EncoderTokenizer) and is_plain(self.folder, tokenizer)

    def _graph(self, backend: Backend) -> Path:
        return self.draft / EXPORTED[backend]

    def _export_exact(self) -> tuple[Predictor | None, dict[str, Any]]:
        """The float32 graph, which must find every entity; `None` if it does not."""
        _LOG.info("%s", "tracing the model")
        graph = self._graph("onnx")
        write_onnx(self.predictor.tagger.emitter, graph)
        found: dict[str, Any] = {"bytes": graph.stat().st_size}
        documents = self.corpus.documents
        texts = [*documents, *cut_all_lengths(self.predictor, documents)]
        try:
            exact = self._with_graph(OnnxEmitter(graph))
            agreement = compare_entities(self.predictor, exact, texts)
            found |= {"f1": micro_f1(exact, self.corpus), "agreement": asdict(agreement)}
        except (ModelError, ValueError) as error:  # it cannot compute some lengths, or gives NaN
            graph.unlink()
            return None, found | {"status": "refused", "reason": str(error)}
        _LOG.info(
            "%s",
            f"float32: {agreement.equal} of {agreement.entities} entities the same, "
            f"{agreement.num_ties} ties, probabilities within {agreement.largest_difference:.1e}, "
            f"logits within {agreement.largest_emission_difference:.1e} nats",
        )
        if agreement.holds:
            return exact, found | {"status": "exported"}
        graph.unlink()
        reason = (
            f"{agreement.differing} of {agreement.entities} entities differ, probabilities by up "
            f"to {agreement.largest_difference:.1e}, logits by up to "
            f"{agreement.largest_emission_difference:.1e} nats"
        )
        return None, found | {"status": "refused", "reason": reason}

    def _export_int8(self, exact: Predictor) -> tuple[Predictor | None, dict[str, Any]]:
        """The int8 graph, if one is good enough; whatever is wrong with it, float32 stays."""
        try:
            small, found = self._search_int8(exact)
        except (ModelError, ValueError) as error:
            small, found = None, {"status": "refused", "reason": str(error)}
        if small is None:
            _LOG.info("%s", f"int8 is refused: {found['reason']}")
            self._graph("onnx-int8").unlink(missing_ok=True)
        return small, found

    def _search_int8(self, exact: Predictor) -> tuple[Predictor | None, dict[str, Any]]:
        """The first int8 graph that is good enough and faster, with what was tried."""
        layers = list_layers(self._graph("onnx"))
        order: list[str] = []
        attempts: list[dict[str, Any]] = []
        f1_exact = self._f1_to_lose(exact)
        for count in range(len(layers) // 2 + 1):
            if count == 1:
                _LOG.info("%s", "looking for the layers that suffer most from int8")
                order = self._sensitive_layers(exact, layers)
            left_out = {layer: layers[layer] for layer in order[:count]}
            small, attempt = self._try_int8(exact, f1_exact, left_out)
            attempts.append(attempt)
            if attempt["speed_against_float32"] <= 1:
                reason = "it is not faster than float32 on this machine"
                break  # with more layers in float32 it would be slower still
            if attempt["points_lost"] <= self.tolerance:
                agreement = compare_entities(self.predictor, small, self.corpus.documents)
                return small, {
                    "status": "exported", "f1": attempt["f1"],
                    "f1_one_by_one": attempt["f1_one_by_one"],
                    "bytes": self._graph("onnx-int8").stat().st_size,
                    "tolerance_points": self.tolerance, "attempts": attempts,
                    "agreement": asdict(agreement),
                }  # fmt: skip
        else:
            reason = (
                f"it loses more than {self.tolerance:g} points even with half of the layers in "
                "float32"
            )
        return None, {"status": "refused", "reason": reason, "f1": attempts[-1]["f1"],
                      "tolerance_points": self.tolerance, "attempts": attempts}  # fmt: skip

    def _try_int8(
        self, exact: Predictor, f1_exact: float, left_out: Mapping[str, Sequence[str]]
    ) -> tuple[Predictor, dict[str, Any]]:
        """Quantize all but some layers (their nodes by layer), and measure what comes of it."""
        target = self._graph("onnx-int8")
        nodes = [node for own in left_out.values() for node in own]
        quantize(self._graph("onnx"), target, leave_out=nodes)
        small = self._with_graph(OnnxEmitter(target, quantized=True))
        names = [f"layer {layer}" if layer else "what is in no layer" for layer in left_out]
        without = f" without {', '.join(names)}" if names else ""
        found = self._measure("onnx-int8", f"int8{without}", small, (exact, f1_exact))
        return small, {"left_out": names, **found}

    def _f1_to_lose(self, exact: Predictor) -> float:
        """Of the float32 graph.

        Raises:
            ModelError: it is 0, so that nothing can be seen of what rounding loses.
        """
        f1 = micro_f1(exact, self.corpus)
        if not f1:
            raise ModelError("the model finds none of the entities, so what it loses is unknown")
        return f1

    def _measure(
        self, backend: Backend, title: str, rounded: Predictor, exact: tuple[Predictor, float]
    ) -> dict[str, Any]:
        """What a graph that is not exact loses against the float32 one, and how fast it is."""
        side_by_side = micro_f1(rounded, self.corpus)
        one_by_one = micro_f1(rounded, self.corpus, one_by_one=True)
        f1 = min(side_by_side, one_by_one)
        lost = 100 * (exact[1] - f1)
        backends: dict[Backend, Predictor] = {"onnx": exact[0], backend: rounded}
        speeds = measure_speeds(backends, self.corpus.documents, self.rounds)
        ratio = speeds[backend] / speeds["onnx"]
        _LOG.info(
            "%s", f"{title}: F1 {f1:.4f} ({-lost:+.2f} points), {ratio:.2f} x float32's speed"
        )
        return {"f1": side_by_side, "f1_one_by_one": one_by_one, "points_lost": lost,
                "speed_against_float32": ratio}  # fmt: skip

    def _try_openvino(self, exact: Predictor) -> tuple[Predictor | None, dict[str, Any]]:
        """OpenVINO on the float32 graph, if that is good enough and faster."""
        from nertune.models.graphs.openvino import OpenVinoEmitter

        found: dict[str, Any] = {"bytes": self._graph("openvino").stat().st_size}
        try:
            emitter = OpenVinoEmitter(self._graph("openvino"))
            found["precision"] = emitter.precision
            rounded = self._with_graph(emitter)
            f1_exact = self._f1_to_lose(exact)
            found |= self._measure(
                "openvino", f"OpenVINO in {emitter.precision}", rounded, (exact, f1_exact)
            )
            agreement = compare_entities(self.predictor, rounded, self.corpus.documents)
        except (ModelError, ValueError) as error:
            reason = str(error)
        else:
            found |= {"tolerance_points": self.tolerance, "agreement": asdict(agreement)}
            if found["points_lost"] <= self.tolerance and found["speed_against_float32"] > 1:
                return rounded, found | {"status": "exported"}
            reason = (
                f"it loses {found['points_lost']:.2f} points, more than {self.tolerance:g}"
                if found["points_lost"] > self.tolerance
                else "it is not faster than float32 on this machine"
            )
        _LOG.info("%s", f"OpenVINO is refused: {reason}")
        return None, found | {"status": "refused", "reason": reason}

    def _sensitive_layers(self, exact: Predictor, layers: Mapping[str, Sequence[str]]) -> list[str]:
        """Layers by how much the logits change when they alone are in int8; the worst first."""
        some = self.corpus.documents[:_MOST_SENSITIVITY]
        _, expected = exact.emissions(some)
        trial = self.draft / "trial.onnx"
        change = {}
        for layer in layers:
            others = [node for other, nodes in layers.items() if other != layer for node in nodes]
            quantize(self._graph("onnx"), trial, leave_out=others)
            _, found = self._with_graph(OnnxEmitter(trial, quantized=True)).emissions(some)
            squares = [float(((a - b) ** 2).sum()) for a, b in zip(expected, found, strict=True)]
            change[layer] = sum(squares)
        trial.unlink(missing_ok=True)
        return sorted(change, key=lambda layer: -change[layer])

    def _with_graph(self, emitter: GraphEmitter) -> Predictor:
        """The tagger as it will be loaded, with a graph that is not in its folder yet."""
        predictor = self.predictor
        return Predictor(
            graph_tagger(emitter, self.folder, self.manifest, predictor.tagset),
            predictor.segmenter,
            predictor.tagset,
            batch_tokens=predictor.batch_tokens,
            calibration=predictor.calibration,
        )


def _versions() -> dict[str, str]:
    import onnx
    import onnxruntime

    return {"torch": torch.__version__, "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__}  # fmt: skip
