"""From models' names to a running service."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from nertune.errors import ConfigError, MissingDependencyError
from nertune.models.graphs.onnx import Backend
from nertune.serving.access import log_json
from nertune.serving.engine import Engine
from nertune.serving.gate import Keys
from nertune.serving.limits import Limits

if TYPE_CHECKING:
    from nertune.serving.protocols.annotations import AnnotationStore

__all__ = [
    "Computing",
    "Folders",
    "Place",
    "load_engine",
    "name_models",
    "read_keys",
    "serve_models",
]

_LIBRARIES = ("fastapi", "uvicorn", "prometheus_client")
_API_KEY = "NERTUNE_API_KEY"


@dataclass(frozen=True, slots=True)
class Computing:
    """How the engine loads and computes: see `MultiPredictor.load`.

    Attributes:
        encoder: where the adapters' base encoder is now; `None` takes what they name.
        device: where to compute.
        backend: what computes.
        slots: adapters in memory at once.
        threads: of the CPU; 0 leaves that to torch.
    """

    encoder: str | None = None
    device: str = "auto"
    backend: Backend = "torch"
    slots: int = 16
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the service listens; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 8000


@dataclass(frozen=True, slots=True)
class Folders:
    """What the service reads and writes.

    Attributes:
        models: whose models may be loaded by name later; `None` for none.
        annotations: where what annotators finish is kept; `None` refuses it.
    """

    models: Path | None = None
    annotations: Path | None = None


def name_models(given: Iterable[str]) -> dict[str, str]:
    """Names of models from `MODEL` or `NAME=MODEL`.

    A folder is called as it is on disk; `model` in a run's folder is called as the run's.

    Raises:
        ConfigError: a name is given twice, or cannot be one.
    """
    from nertune.serving.tagging import is_model_name

    named: dict[str, str] = {}
    for one in given:
        name, equals, model = one.partition("=")
        if not equals or not is_model_name(name) or _is_there(one):
            model, name = one, _own_name(one)
        if not model:
            raise ConfigError(f"{one}: expected NAME=MODEL, got no model")
        if not is_model_name(name):
            raise ConfigError(f"{one}: {name!r} cannot be a model's name; say NAME={one}")
        if name in named:
            raise ConfigError(f"two models are named {name!r}: say OTHER={one} for one of them")
        named[name] = model
    if not named:
        raise ConfigError("name a model to serve")
    return named


def _is_there(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long for a file, an unknown ~user
        return False


def _own_name(model: str) -> str:
    if _is_there(model):
        path = Path(model).expanduser().resolve()
        return path.parent.name if path.name == "model" else path.name
    return model.rstrip("/").rpartition("/")[2]


def read_keys(admin: str) -> Keys:
    """The keys that the environment and the command line give.

    Raises:
        ConfigError: a key cannot be sent in a header.
    """
    keys = Keys(api=os.environ.get(_API_KEY, ""), admin=admin)
    for name, key in ((_API_KEY, keys.api), ("--admin-key", keys.admin)):
        if not key.isascii() or not key.isprintable() or key != key.strip():
            raise ConfigError(f"{name}: a key is printable ASCII without spaces at its ends")
    if keys.api and keys.api == keys.admin:
        raise ConfigError(f"--admin-key and {_API_KEY} are the same: then every client is admin")
    return keys


def load_engine(models: Mapping[str, str], computing: Computing) -> Engine:
    """The models, ready to tag.

    Raises:
        ModelError: one of them cannot be loaded.
    """
    from nertune.inference.mixed import MultiPredictor

    return MultiPredictor.load(
        computing.encoder,
        models,
        device=computing.device,
        backend=computing.backend,
        slots=computing.slots,
    )


def serve_models(
    models: Mapping[str, str],
    place: Place,
    computing: Computing,
    *,
    keys: Keys,
    limits: Limits,
    folders: Folders | None = None,
    say: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was accepted.

    Args:
        models: names to folders or hub names; the first one is the default.
        place: where to listen.
        computing: how to load and compute.
        keys: who may ask.
        limits: what is accepted.
        folders: what is read and written.
        say: shows a line to whoever started it.

    Raises:
        MissingDependencyError: a library of the extra `serve` is not installed.
        ConfigError: the address or a folder cannot be used.
        ModelError: a model cannot be loaded.
    """
    for library in _LIBRARIES:
        if find_spec(library) is None:
            raise MissingDependencyError(library, extra="serve", purpose="nertune serve")
    import torch

    from nertune.serving.app import build_app
    from nertune.serving.server import bind, build_server, is_loopback
    from nertune.serving.tagging import Tagging

    folders = folders or Folders()
    if folders.models is not None and not folders.models.is_dir():
        raise ConfigError(f"--models {folders.models}: is no folder")
    with bind(place.host, place.port) as listener, _opened(folders.annotations) as store:
        if computing.threads:
            torch.set_num_threads(computing.threads)
        engine = load_engine(models, computing)
        tagging = Tagging(engine, limits, models=folders.models)
        host, port = listener.getsockname()[:2]
        if not is_loopback(host) and not keys.api:
            say(
                f"warning: {host} may be reached from other machines, and no key is asked for: "
                f"set {_API_KEY}, or put a proxy in front that knows who may ask"
            )
        shown = f"[{host}]" if ":" in host else host
        with log_json():
            server = build_server(
                build_app(tagging, keys, annotations=store),
                limits,
                ready=lambda: say(
                    f"{', '.join(engine.names)} on http://{shown}:{port} "
                    "(Ctrl-C or SIGTERM ends it)"
                ),
            )
            server.run(sockets=[listener])


def _opened(folder: Path | None) -> AbstractContextManager[AnnotationStore | None]:
    """Where annotations are kept, until it is left."""
    from nertune.serving.protocols.annotations import AnnotationStore

    return nullcontext() if folder is None else AnnotationStore(folder)
