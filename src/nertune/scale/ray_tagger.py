"""A tagger for pipelines of Ray Data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from nertune.data.formats.tables.parquet import import_arrow
from nertune.errors import ConfigError
from nertune.scale.table import entities_type, entity_rows
from nertune.types import Document

if TYPE_CHECKING:
    from nertune.models.graphs.onnx import Backend

__all__ = ["RayTagger"]

_OUTPUT = "entities"


class RayTagger:
    """A callable class for `ray.data.Dataset.map_batches`: adds the entities of a column of texts.

    The new column `entities` holds for each text a list of `{start, end, label, text, score}`.

    The model is loaded once in each actor. Batches are Arrow tables (`batch_format="pyarrow"`) or
    dicts of arrays; other columns stay as they are.

    Args:
        model: a folder or hub name.
        column: that of the texts.
        device, backend, encoder: as for `Predictor.load`.
        min_score: leave out entities that are less probable.
        threads: of an actor on a CPU; give `map_batches` the same number as `num_cpus`.

    Raises:
        NertuneError: the model cannot be loaded.

    Example:
        >>> tagged = dataset.map_batches(                                  # doctest: +SKIP
        ...     RayTagger, fn_constructor_kwargs={"model": "runs/lora/model"},
        ...     batch_size=512, batch_format="pyarrow", concurrency=4,
        ... )
    """

    def __init__(
        self,
        model: str,
        *,
        column: str = "text",
        device: str = "auto",
        backend: str = "torch",
        encoder: str | None = None,
        min_score: float = 0.0,
        threads: int = 1,
    ):
        from nertune.inference.predictor import Predictor
        from nertune.models.graphs.threads import set_num_threads

        set_num_threads(threads)
        self._predictor = Predictor.load(
            model, device=device, backend=cast("Backend", backend), encoder=encoder
        )
        self._column, self._min_score = column, min_score

    def __call__(self, batch: Any) -> Any:
        """Tag a batch.

        Args:
            batch: an Arrow table, or a dict of arrays.

        Raises:
            ConfigError: the column is not there, is none of texts, or holds no value somewhere.
        """
        if isinstance(batch, Mapping):
            rows = self._tag(list(batch[self._column]) if self._column in batch else None, batch)
            return {**batch, _OUTPUT: _as_array(rows)}
        pa, _ = import_arrow()
        names = batch.column_names
        texts = batch.column(self._column).to_pylist() if self._column in names else None
        entities = pa.array(self._tag(texts, names), type=entities_type())
        if _OUTPUT in names:
            batch = batch.drop_columns([_OUTPUT])
        return batch.append_column(_OUTPUT, entities)

    def _tag(self, texts: list[Any] | None, names: Any) -> list[list[dict[str, Any]]]:
        if texts is None:
            raise ConfigError(
                f"column={self._column!r}: the batch has no such column; it has {', '.join(names)}"
            )
        if any(not isinstance(text, str) for text in texts):
            raise ConfigError(f"column={self._column!r}: holds values that are no text")
        documents = [Document(str(text)) for text in texts]
        tagged = self._predictor.tag_batches([documents], min_score=self._min_score)
        return [entity_rows(document) for document in tagged]


def _as_array(rows: list[list[dict[str, Any]]]) -> Any:
    import numpy as np

    found = np.empty(len(rows), dtype=object)
    for place, row in enumerate(rows):  # at once, lists of one length would become a matrix
        found[place] = row
    return found
