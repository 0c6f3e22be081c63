"""More than one process: annotate any number of documents, on one machine or on Ray."""

from __future__ import annotations

from nertune.scale.ray_tagger import RayTagger

__all__ = ["RayTagger"]
