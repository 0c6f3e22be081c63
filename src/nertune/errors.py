"""Every error that nertune raises on purpose, on one page.

    NertuneError
    ├── ConfigError            a setting is unknown, missing or out of range
    ├── DataError              a data file (or a line of it) cannot be used
    ├── TokenizerError         a tokenizer cannot give what nertune needs
    ├── ModelError             a model folder or hub name cannot be loaded
    │   ├── ArtifactError      a folder that nertune wrote is damaged or does not fit
    │   └── NotFiniteError     a model gives NaN or infinity
    ├── CheckpointError        a run cannot be resumed
    ├── TrainingError          training cannot go on (e.g. the loss is not finite)
    ├── RequestError           the service refuses a request; carries the HTTP status
    ├── ServerError            a server cannot be reached, or is no nertune server
    └── MissingDependencyError a library is not installed; names the command that installs it

The command line prints the message of a `NertuneError` on one line and exits with 2;
anything else is a bug and shows its traceback.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "ArtifactError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "MissingDependencyError",
    "ModelError",
    "NertuneError",
    "NotFiniteError",
    "RequestError",
    "ServerError",
    "TokenizerError",
    "TrainingError",
]


class NertuneError(Exception):
    """Base of all errors that a user can mend."""


class ConfigError(NertuneError):
    """A setting is unknown, missing, of the wrong type or out of range."""


class DataError(NertuneError):
    """A data file cannot be read or written as asked.

    Args:
        message: what is wrong, what was expected and what to do.
        path: the file.
        line: its line, counted from 1.
    """

    def __init__(self, message: str, *, path: Path | str | None = None, line: int | None = None):
        self.path = None if path is None else Path(path)
        self.line = line
        where = "" if path is None else f"{path}:{line}: " if line is not None else f"{path}: "
        super().__init__(where + message)


class TokenizerError(NertuneError):
    """A tokenizer is slow, missing, or cannot give the offsets that nertune needs."""


class ModelError(NertuneError):
    """A model folder or hub name cannot be loaded."""


class ArtifactError(ModelError):
    """A folder that nertune wrote is damaged, of an unknown version, or does not fit."""


class NotFiniteError(ModelError):
    """A model gives NaN or infinity, so that nothing can be decoded."""


class CheckpointError(NertuneError):
    """A run cannot be resumed from what its folder holds."""


class TrainingError(NertuneError):
    """Training cannot continue, e.g. because the loss is no longer finite."""


class RequestError(NertuneError):
    """The service refuses a request.

    Args:
        message: what is wrong, what was expected and what to do.
        status: the HTTP status.
        code: one word for programs, e.g. `unknown_model`.
        retry_after: seconds after which the same request may be accepted.
    """

    def __init__(self, message: str, *, status: int, code: str, retry_after: int | None = None):
        self.status = status
        self.code = code
        self.retry_after = retry_after
        super().__init__(message)


class ServerError(NertuneError):
    """A server cannot be reached, or what answers there is no nertune server."""


class MissingDependencyError(NertuneError):
    """An optional library is not installed.

    Args:
        library: the import name that failed.
        extra: nertune's extra that installs it; empty for a core dependency.
        purpose: what it is needed for.
    """

    def __init__(self, library: str, *, extra: str = "", purpose: str):
        package = f'"nertune[{extra}]"' if extra else library
        super().__init__(
            f"{purpose} needs {library}, which is not installed: pip install {package}"
        )
