"""Files from the Hugging Face hub and from plain URLs, kept in the caches of huggingface_hub and torch.hub.

Whatever goes wrong ends in one sentence that says how to do without the network. No torch until a URL is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""What a repository may call its weights, the preferred one first."""
BESIDE = ("config.json", "preprocessor_config.json")
"""What helps to understand them, where the repository has it."""


class DownloadError(OSError):
    """Weights that cannot be had now: no network, or nothing there."""


def repository(repo_id: str, **options: Any) -> Path:
    """Folder with the weights of a repository on the hub and the configuration beside them.

    Args:
        repo_id: such as ``"microsoft/swinv2-tiny-patch4-window8-256"``.
        options: of `huggingface_hub.hf_hub_download`: revision, token, cache_dir, force_download, local_files_only.

    Raises:
        DownloadError: there is no network, no such repository, or no weights in it.
        ValueError: this cannot be a repository's id.
    """
    reason = ""
    for name in WEIGHTS:
        weights, why = _entry(repo_id, name, options)
        if weights is not None:
            for beside in BESIDE:
                if not _known(repo_id, beside, options):
                    _entry(repo_id, beside, options)
            return weights.parent
        if why and not reason:  # huggingface_hub tries for half a minute: once is enough
            reason, options = why, {**options, "local_files_only": True}
    if not reason:
        raise DownloadError(f"https://huggingface.co/{repo_id} holds neither {' nor '.join(WEIGHTS)}.")
    raise DownloadError(
        f"Cannot get {repo_id!r} from the hub ({reason}): connect, or download {WEIGHTS[0]} and {BESIDE[0]} from "
        f"https://huggingface.co/{repo_id} elsewhere and pass their folder: swinv2.load(FOLDER)."
    )


def repository_file(repo_id: str, name: str) -> Path:
    """One file of a repository on the hub.

    Raises:
        DownloadError: there is no network, or no such file.
    """
    path, reason = _entry(repo_id, name, {})
    if path is None:
        address = f"https://huggingface.co/{repo_id}/resolve/main/{name}"
        raise DownloadError(_by_hand(name, reason or "the hub does not have it", address))
    return path


def url(address: str) -> Path:
    """A file from a URL, in the folder of `torch.hub`; eight hex digits before its suffix are checked as its hash.

    Raises:
        DownloadError: there is no network, no such file, or not the file of that hash.
    """
    import torch.hub
    from huggingface_hub import constants

    name = address.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    if constants.HF_HUB_OFFLINE:
        raise DownloadError(_by_hand(name, "HF_HUB_OFFLINE forbids to connect", address))
    path.parent.mkdir(parents=True, exist_ok=True)
    digits = re.search(r"-([0-9a-f]{8,})\.", name)
    try:
        torch.hub.download_url_to_file(address, str(path), digits[1] if digits else None)
    except (OSError, RuntimeError) as error:
        raise DownloadError(_by_hand(name, _first_line(error), address)) from None
    return path


def _entry(repo_id: str, name: str, options: Mapping[str, Any]) -> tuple[Path | None, str]:
    """A file of a repository, from the cache where it is; else None and why, empty if there is no such file."""
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(repo_id, name, **options)), ""
    except errors.RepositoryNotFoundError:
        raise DownloadError(
            f"https://huggingface.co/{repo_id} does not exist, or you may not see it: check the name, or log in with "
            "`hf auth login`."
        ) from None
    except errors.LocalEntryNotFoundError:
        return None, "it is not in the cache, and the hub cannot be reached"
    except errors.EntryNotFoundError:
        return None, ""
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]  # the HTTP library's own base class
        return None, _first_line(error)


def _known(repo_id: str, name: str, options: Mapping[str, Any]) -> bool:
    """Whether the cache tells that a repository has a file, or has not: asking again would need the network."""
    from huggingface_hub import try_to_load_from_cache

    chosen = {key: options[key] for key in ("cache_dir", "revision") if options.get(key) is not None}
    return not options.get("force_download") and try_to_load_from_cache(repo_id, name, **chosen) is not None


def _by_hand(what: str, reason: str, address: str) -> str:
    name = address.rpartition("/")[2]
    return (
        f"Cannot get {what} ({reason}): connect, or download {address} elsewhere and pass the file: "
        f"swinv2.load({name!r})."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
