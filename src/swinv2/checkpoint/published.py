"""Published weights by any of their names, and the way to their files.

`RECORDS` are the weights of Microsoft, timm, transformers, torchvision and SimMIM. No torch here.
"""

from __future__ import annotations

import fnmatch
from functools import cache
from pathlib import Path, PurePosixPath

from swinv2 import download
from swinv2.checkpoint.record import Kind, Record, Source
from swinv2.checkpoint.records import RECORDS
from swinv2.config import did_you_mean
from swinv2.download import DownloadError

__all__ = ["RECORDS", "DownloadError", "Record", "Source", "fetch", "find", "get", "list_pretrained"]

_HUB = ("https://huggingface.co/", "hf-hub:", "hf_hub:")
_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".ckpt")


def find(origin: str) -> Record | None:
    """The record of weights by any name that they go by; None for others.

    Args:
        origin: a record's name, a hub id (``hf-hub:`` may stand before it), a member of a torchvision enum such as
            ``"Swin_V2_T_Weights.IMAGENET1K_V1"``, or the name of a published file, with a path before it or not.
    """
    key = _bare(origin)
    if key.endswith(_SUFFIXES):
        key = PurePosixPath(key.replace("\\", "/")).name
    return _index().get(key) or _index().get(_stem(key))


def get(name: str) -> Record:
    """The same, or a ValueError that names the nearest."""
    record = find(name)
    if record is None:
        raise ValueError(
            f"There are no published weights {name!r}{did_you_mean(name, RECORDS)}; `swinv2 models --pretrained` lists "
            "them all."
        )
    return record


def list_pretrained(pattern: str = "*") -> list[str]:
    """Names of published weights that match a shell pattern such as ``"swinv2_base*in1k"``."""
    return fnmatch.filter(RECORDS, pattern)


def of_variant(variant: str) -> Record:
    """The only published weights of a named variant, just as it is.

    Raises:
        ValueError: there are none, or several to choose from.
    """
    records = [record for record in RECORDS.values() if record.variant == variant and not record.changes]
    if not records:
        raise ValueError(f"There are no published weights of {variant}: `swinv2 models --pretrained` lists what is.")
    if len(records) > 1:
        listed = ", ".join(record.name for record in records[:8])
        more = f" and {len(records) - 8} more (`swinv2 models --pretrained` lists all)" if len(records) > 8 else ""
        raise ValueError(f"There are several published weights of {variant}; name one: {listed}{more}.")
    return records[0]


def fetch(origin: str | Record, source: Kind | None = None) -> Path:
    """Download weights unless they are in the cache.

    Args:
        origin: whatever `find` takes, or the id of any repository on the hub.
        source: which of the record's sources to use: by default the one that ``origin`` names, or the first.

    Returns:
        A file, or the folder of a repository (weights and config.json).

    Raises:
        DownloadError: there is no network, or the file can only be had by hand.
        ValueError: no such weights, or the record has no such source.
    """
    record = origin if isinstance(origin, Record) else find(origin)
    if record is None and "/" in (name := _bare(str(origin))):
        return download.repository(name)
    record = record or get(str(origin))
    chosen = _choose(record, "" if isinstance(origin, Record) else _bare(origin), source)
    if chosen.kind == "drive":
        raise DownloadError(
            f"{record.name} can only be had by a browser, from {chosen.url}: then pass the file, "
            f"swinv2.load({chosen.file!r})."
        )
    if chosen.location.startswith("https:"):
        return download.url(chosen.location)
    return (
        download.repository_file(chosen.location, chosen.file) if chosen.file else download.repository(chosen.location)
    )


def _choose(record: Record, origin: str, kind: Kind | None) -> Source:
    if kind is None:
        return next((each for each in record.sources if origin in (each.location, each.file)), record.sources[0])
    for each in record.sources:
        if each.kind == kind:
            return each
    kinds = ", ".join(each.kind for each in record.sources)
    raise ValueError(f"{record.name} is not published by {kind!r}, only by {kinds}.")


def _bare(origin: str) -> str:
    for prefix in _HUB:
        origin = origin.removeprefix(prefix)
    return origin.rstrip("/")


def _stem(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


@cache
def _index() -> dict[str, Record]:
    """Every spelling, files without their suffixes; no two records share one."""
    index = {}
    for record in RECORDS.values():
        for name in (record.name, *record.aliases, *map(_name, record.sources)):
            index[name] = record
    return index


def _name(source: Source) -> str:
    """A file's name without its suffix; a repository's id, if it holds one set of weights."""
    return _stem(PurePosixPath(source.file).name) if source.file else source.location
