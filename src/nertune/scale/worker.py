"""A worker: `python -m nertune.scale.worker`, started by `scale.workers`, not by people."""

from __future__ import annotations

import os
import signal
import sys
from typing import BinaryIO

from nertune.errors import NertuneError
from nertune.scale.tasks import Tagging, unpack_documents
from nertune.storage.frames import read_frame, write_frame

__all__ = ["main"]


def main() -> None:
    """Load what the first frame says, then tag the chunks that follow until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    source, target = sys.stdin.buffer, _own_output()
    try:
        told, _ = read_frame(source)
        try:
            from nertune.scale.tagging import ChunkTagger

            tagger = ChunkTagger(Tagging(**told))
            write_frame(target, {})
            while True:
                documents, _ = read_frame(source)
                answer = tagger.tag(unpack_documents(documents))
                write_frame(target, answer.to_dict(), answer.data)
        except NertuneError as error:
            write_frame(target, {"error": str(error)})
    except (EOFError, BrokenPipeError):  # the parent has ended, or needs no more
        return


def _own_output() -> BinaryIO:
    """Standard output for frames alone: what libraries print goes to standard error."""
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return target


if __name__ == "__main__":
    main()
