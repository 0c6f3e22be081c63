"""Several files under one name: a folder, a pattern (`texts/*.txt`), or a ZIP archive."""

from __future__ import annotations

import glob
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from nertune.data.formats.recognition import format_of_name, recognise, recognise_glimpse
from nertune.data.formats.registry import all_formats
from nertune.data.formats.source import HEAD_BYTES, Glimpse, Source
from nertune.errors import DataError
from nertune.storage.archives import UNPACKING_ERRORS
from nertune.storage.compression import unpacked_name

__all__ = ["files_of_folder", "files_of_pattern", "is_pattern", "keep_alike", "sources_of"]

_MOST_BYTES = 1 << 30  # that a member may unpack to, if it is much smaller packed
_MOST_RATIO = 200
_ABOUT = ("readme", "license", "licence", "changelog")  # names of files about data
_SIGNATURE = b"PK\x03\x04"


def sources_of(path: Path) -> tuple[list[Source], list[Path]]:
    """The files under one name, in the order of their names.

    Args:
        path: a file, a folder, a pattern, or a ZIP archive. A folder that is one corpus (brat) is
            one source, as is an archive that a format reads itself.

    Returns:
        The sources; and the files that are left out, since neither name nor content is of a format.

    Raises:
        DataError: a folder, a pattern or an archive holds no such file, or the archive is damaged.
    """
    if path.is_dir():
        if recognise(Source(path)) is not None:
            return [Source(path)], []
        files, left_out = files_of_folder(path)
        return [Source(file) for file in files], left_out
    if is_pattern(path):
        return [Source(file) for file in files_of_pattern(path)], []
    source = Source(path)
    if path.is_file() and path.suffix.lower() == ".zip":
        head = source.glimpse()
        if head.head.startswith(_SIGNATURE) and recognise_glimpse(head, path) is None:
            return _members(path)
    return [source], []


def is_pattern(path: Path) -> bool:
    """Whether a name is a pattern and not that of a file."""
    return not path.exists() and re.search(r"[*?\[]", str(path)) is not None


def files_of_pattern(path: Path) -> list[Path]:
    """The files that a pattern names, sorted.

    Raises:
        DataError: there is none.
    """
    # `Path.glob` takes no absolute pattern.
    named = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207
    found = sorted(file for file in named if file.is_file())
    if not found:
        raise DataError("no file is named so", path=path)
    return found


def files_of_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of a folder and of folders in it, sorted; and those that are left out.

    Left out are files whose name and content are of no format. Hidden ones do not count.

    Raises:
        DataError: there is no such file.
    """
    inside = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    names = [p.relative_to(folder).as_posix() for p in inside]
    shown = [
        p
        for p, name in zip(inside, names, strict=True)
        if not _is_hidden(name) and not _is_beside(name)
    ]
    sources, left_out = keep_alike([Source(file) for file in shown], _is_data)
    found = [source.path for source in sources]
    if not any(_is_data(source) for source in sources):
        raise DataError(
            "this folder holds no text: expected .txt, .conll, .jsonl or the like, or name the "
            "files",
            path=folder,
        )
    return found, left_out


def keep_alike(
    sources: Sequence[Source], is_data: Callable[[Source], bool]
) -> tuple[list[Source], list[Path]]:
    """The sources that are data, with those that have a suffix of these; and the others' paths.

    So a damaged file among data is not left out; a README is, whatever its suffix. All are kept
    where none is data: their reader says what is wrong.
    """
    known = {source.path for source in sources if is_data(source)}
    if not known:
        return list(sources), []
    suffixes = {_suffix(path) for path in known} - {""}
    kept = [
        s
        for s in sources
        if s.path in known
        or (_suffix(s.path) in suffixes and not s.path.name.lower().startswith(_ABOUT))
    ]
    return kept, sorted({source.path for source in sources} - {source.path for source in kept})


def _suffix(path: Path) -> str:
    return Path(unpacked_name(path.name)).suffix.lower()


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _is_beside(name: str) -> bool:
    """Whether a format reads the file beside another one."""
    return any(name.rpartition("/")[2] in format.beside for format in all_formats())


def _is_data(source: Source) -> bool:
    """Whether a file has no suffix, or the name or content of a format that can be read."""
    named = format_of_name(source.path)
    if _suffix(source.path) == "" or (named is not None and named.reads):
        return True
    try:
        return recognise(source) is not None
    except DataError:  # it is of two formats: its reader says which
        return True


class _Member(Source):
    """A file in a ZIP archive, unpacked when it is read."""

    def __init__(self, archive: Path, name: str):
        super().__init__(archive / name)
        self._archive, self._name = archive, name

    def read_bytes(self) -> bytes:
        with self._unpacked() as stream:
            try:
                return stream.read()
            except UNPACKING_ERRORS as error:
                raise DataError(f"is damaged in the archive ({error})", path=self.path) from error

    def open(self) -> BinaryIO:
        return io.BytesIO(self.read_bytes())

    def glimpse(self) -> Glimpse:
        try:
            with self._unpacked() as stream:
                head = stream.read(HEAD_BYTES)
        except DataError:  # for its reader to refuse
            head = b""
        return Glimpse(self.path.name, head, len(head) < HEAD_BYTES)

    @contextmanager
    def _unpacked(self) -> Iterator[IO[bytes]]:
        try:
            with zipfile.ZipFile(self._archive) as archive, archive.open(self._name) as stream:
                yield stream
        except UNPACKING_ERRORS as error:
            raise DataError(f"cannot be unpacked: {error}", path=self.path) from error


def _members(path: Path) -> tuple[list[Source], list[Path]]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [i for i in archive.infolist() if not i.is_dir() and not _is_hidden(i.filename)]
    except UNPACKING_ERRORS as error:
        raise DataError(f"is not a whole ZIP archive ({error})", path=path) from error
    infos.sort(key=lambda info: info.filename)
    for info in infos:
        if info.flag_bits & 1:
            raise DataError(f"{info.filename} is encrypted: unpack the archive first", path=path)
        if info.file_size > max(_MOST_BYTES, _MOST_RATIO * info.compress_size):
            told = f"{info.filename} would unpack to {info.file_size:,} bytes: unpack it first"
            raise DataError(told, path=path)
    names = [info.filename for info in infos if not _is_beside(info.filename)]
    whole = recognise_glimpse(Glimpse(path.stem, files=tuple(names)), path.with_suffix(""))
    if whole is not None and whole.format.container == "folder":
        told = f"holds a {whole.format.name} folder: unpack it, e.g. unzip {path.name} -d FOLDER"
        raise DataError(told, path=path)
    found, left_out = keep_alike([_Member(path, name) for name in names], _is_data)
    if not any(_is_data(member) for member in found):
        told = "this archive holds no text: expected .txt, .conll, .jsonl or the like"
        raise DataError(told, path=path)
    return found, left_out
