"""Workers that are actors of Ray, on one machine or on a cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from nertune.scale.tasks import Reject, Tagged, Tagging, join_tagged, pack_documents
from nertune.scale.workers import Done, WorkerError
from nertune.storage.ray_cluster import RayCluster
from nertune.types import Document

__all__ = ["RayWorkers"]

_MOST_DEATHS = 3
"""So often a chunk is tried on actors that die before its documents are tried alone."""
_QUEUED = 2  # chunks that an actor holds, so that it does not wait for the next one


class _Actor:
    """What Ray runs: a loaded tagger."""

    def __init__(self, values: dict[str, Any]):
        from nertune.scale.tagging import ChunkTagger

        self._tagger = ChunkTagger(Tagging(**values))

    def ready(self) -> bool:
        return True

    def tag(self, documents: list[list[Any]]) -> tuple[dict[str, Any], bytes]:
        from nertune.scale.tasks import unpack_documents

        found = self._tagger.tag(unpack_documents(documents))
        return found.to_dict(), found.data


class RayWorkers:
    """Actors of Ray; each loads the model once. Ray starts an actor that dies anew.

    On a cluster the model's folder must be there on every node (or be a hub name), as nertune must.

    Args:
        tagging: what they do.
        num_workers: how many.
        address: of a running cluster, e.g. `auto`; empty starts Ray on this machine, or takes the
            one that this process is connected to.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigError: the cluster cannot be reached.
        NertuneError: the model cannot be loaded.
    """

    def __init__(self, tagging: Tagging, num_workers: int, *, address: str = ""):
        self._cluster = RayCluster(address, num_cpus=max(1, num_workers * tagging.threads))
        self._ray = ray = self._cluster.ray
        self.num_workers = num_workers
        remote = ray.remote(_Actor)
        gpus = 1 if tagging.device.startswith("cuda") else 0
        self._actors = [
            remote.options(
                num_cpus=tagging.threads,
                num_gpus=gpus,
                max_restarts=-1,
                max_task_retries=_MOST_DEATHS - 1,
            ).remote(tagging.to_dict())
            for _ in range(num_workers)
        ]
        self._check()
        self._waiting: deque[tuple[int, Sequence[Document]]] = deque()
        self._running: dict[Any, tuple[int, int, Sequence[Document]]] = {}  # reference: actor, …
        self._parts: dict[int, list[Tagged]] = {}

    def submit(self, number: int, documents: Sequence[Document]) -> None:
        """See `scale.workers.Workers`."""
        self._waiting.append((number, documents))
        self._fill()

    def wait(self) -> Done:
        """See `scale.workers.Workers`."""
        ray = self._ray
        (ready, *_), _ = ray.wait(list(self._running), num_returns=1)
        actor, number, documents = self._running.pop(ready)
        try:
            tagged = Tagged.from_dict(*ray.get(ready))
        except ray.exceptions.RayActorError:
            tagged = join_tagged([self._try_alone(actor, document) for document in documents])
        except ray.exceptions.RayTaskError as error:
            raise WorkerError(f"worker {actor + 1}: {_cause(error)}") from error
        self._fill()
        return Done(number, actor, tagged)

    def close(self) -> None:
        """See `scale.workers.Workers`; Ray itself is stopped where it was started here."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._cluster.close()

    def _check(self) -> None:
        """Wait until every actor has loaded the model."""
        for number, actor in enumerate(self._actors):
            try:
                self._ray.get(actor.ready.remote())
            except self._ray.exceptions.RayError as error:
                cause = _cause(error)
                self.close()
                raise WorkerError(f"worker {number + 1} cannot start: {cause}") from error

    def _fill(self) -> None:
        """Give waiting chunks to actors that have too few."""
        load = [0] * self.num_workers
        for actor, _, _ in self._running.values():
            load[actor] += 1
        while self._waiting and min(load) < _QUEUED:
            actor = load.index(min(load))
            self._send(actor, *self._waiting.popleft())
            load[actor] += 1

    def _send(self, actor: int, number: int, documents: Sequence[Document]) -> None:
        reference = self._actors[actor].tag.remote(pack_documents(documents))
        self._running[reference] = actor, number, documents

    def _try_alone(self, actor: int, document: Document) -> Tagged:
        """Tag one document; it is rejected if the actor dies of it, too."""
        try:
            answer = self._ray.get(self._actors[actor].tag.remote(pack_documents([document])))
        except self._ray.exceptions.RayActorError as error:
            reason = f"the process that tagged it died {_MOST_DEATHS} times ({_cause(error)})"
            return Tagged(rejects=[Reject(document.id, reason)])
        return Tagged.from_dict(*answer)


def _cause(error: Exception) -> str:
    """What a person has to know of an error of Ray's: the last line, without the traceback."""
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(cause).__name__
