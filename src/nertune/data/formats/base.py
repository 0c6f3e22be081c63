'''What a file format is to nertune: the `Format` protocol, and what readers and writers are given.

A new format is one module with a class such as this one, and one line in `registry.py`. Another
package registers its own with `nertune.data.formats.register(Csv())`, or by an entry point
of the group `nertune.formats`, which is loaded when it is first needed:

    class Csv(Format):
        """A row a document: its text, then start, end and label of each entity."""

        name = "csv"
        suffixes = (".csv",)
        holds = Holds(overlap=True)

        def recognise(self, seen):
            return "it begins with the row text,spans" if seen.first == "text,spans" else None

        def read(self, source, options, findings):
            rows = csv.reader(io.StringIO(source.read_text(), newline=""))
            next(rows)
            for text, *spans in rows:
                entities = [Entity(int(a), int(b), label) for a, b, label in batches_of_3(spans)]
                found = () if options.ignore_tags else tuple(entities)
                yield Document(text, found, f"{source.path.name}:{rows.line_num}")

        def write(self, documents, target, options):
            rows = csv.writer(target, lineterminator="\n")
            rows.writerow(["text", "spans"])
            for document in documents:
                rows.writerow([document.text, *(v for e in document.entities for v in e.key)])

From then on the name works in recipes (`data.format`), on the command line and in Python, files are
recognised, and the test of round trips includes it. `tests/data/formats/test_toy_format.py` has
this format with its errors.

Rules for a reader: offsets become Unicode code points with the end excluded; a line that cannot be
used is a `DataError` with file and line; nothing is dropped or assumed without a notice in
`Findings`; an id that the source gives becomes `Document.id` and `meta["id"]`. Rules for a writer:
what `fit` returns can be written, and is read back the same; what the format cannot hold is an
error, never left out.
'''

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Protocol

from nertune.data.formats.fitting import fit
from nertune.data.formats.source import Glimpse, Source
from nertune.data.formats.values import Findings, Fitted, Holds, ReadOptions, WriteOptions
from nertune.errors import ConfigError
from nertune.types import Document

__all__ = [
    "Findings",
    "Fitted",
    "Format",
    "Glimpse",
    "Holds",
    "ReadOptions",
    "Source",
    "WriteOptions",
    "check_choice",
    "check_options",
]


class Format(Protocol):
    """A file format. Subclass it for the defaults below; see the module's docstring for the rules.

    Attributes:
        name: as recipes and the command line have it, e.g. `conll`.
        title: for people, e.g. `CoNLL, two columns`.
        suffixes: file suffixes that mean this format and no other, in lower case; the first one is
            that of new files.
        holds: what it can hold.
        container: a text file, a binary file, or a folder of files.
        reads, writes: what of the two it can.
        read_as: the format that reads what this one writes, where that is another one.
        general: whether its claim on a file yields to that of any other format.
        options: options of its own, with what they mean.
        beside: names of files that it reads beside a data file; in a folder they are no data.
    """

    name: str
    title: str = ""
    suffixes: tuple[str, ...] = ()
    holds: Holds = Holds()
    container: Literal["text", "binary", "folder"] = "text"
    reads: bool = True
    writes: bool = True
    read_as: str = ""
    general: bool = False
    options: Mapping[str, str] = MappingProxyType({})
    beside: tuple[str, ...] = ()

    def recognise(self, seen: Glimpse) -> str | None:
        """Why a file is of this format, by its content (not by its suffix); `None` if it is not.

        The answer ends a sentence: "read as jsonl: its first line is a JSON object with a text".
        """
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The documents, in order.

        Args:
            source: the file or folder.
            options: what the user asked for.
            findings: gets what was decided and repaired, at the latest with the last document.

        Raises:
            DataError: a line cannot be used, or there is no document.
            ConfigError: an option has an unknown value.
        """
        raise ConfigError(f"format {self.name} cannot be read")

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """Write documents, each as soon as it comes where the format allows.

        Args:
            documents: what to write.
            target: by `container`: a `TextIO` that translates no line ends, a `BinaryIO`, or the
                `Path` of an empty folder.
            options: how.

        Raises:
            DataError: the format cannot hold a document as it is; see `fit`.
        """
        raise ConfigError(f"format {self.name} cannot be written")

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """A document as this format can hold it, with all that is lost by that.

        Where entities may not overlap, the likeliest is kept, then the earlier, then the longer.
        """
        return fit(document, self.holds, options)


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a value that is not among those allowed.

    Raises:
        ConfigError: names the option and the values.
    """
    if value not in allowed:
        raise ConfigError(f"{name}={value!r} is unknown, expected one of {', '.join(allowed)}")


def check_options(format: Format, given: Mapping[str, str]) -> None:
    """Refuse options that a format has not got.

    Raises:
        ConfigError: names the option and those that there are.
    """
    if unknown := sorted(set(given) - set(format.options)):
        known = ", ".join(format.options) or "none"
        raise ConfigError(f"format {format.name} has no option {unknown[0]!r}; it has: {known}")
