"""WebAnno TSV 3."""

from nertune.data.formats.webanno.format import WebAnno

__all__ = ["WebAnno"]
