"""A model's files: a folder of the user's, or a snapshot of the Hugging Face hub kept on this disk.

What is here already is used without asking the hub, so that a model does not change under an index
and a machine without a network starts at once. Python files and pickles of a repository are never
run: weights are read as safetensors, or as tensors only.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from rag_app.errors import ModelError

_WEIGHTS: Final = ("*.safetensors", "pytorch_model*.bin")
_NEEDED: Final = re.compile(r"(?:\d+_\w+/)?[\w.-]+\.(?:json|txt|model|jinja)|(?:\d+_\w+/)?\w+\.pt")
_NAME: Final = re.compile(r"(?!.*(?:--|\.\.))\w[\w.-]*(?:/\w[\w.-]*)?(?<![.-])")
"""A name on the hub."""
_TELLING: Final = ("modules.json", "config_sentence_transformers.json")
"""Files that say how a model is used; a model may lack them."""
_ALWAYS: Final = "Give the folder of a downloaded model, or a name on huggingface.co"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model lies; `commit` is that on the hub, None for a folder of the user's."""

    folder: Path
    commit: str | None = None

    @property
    def identity(self) -> dict[str, str]:
        """What tells it from every other: the commit, or the checksum of the folder."""
        return {"commit": self.commit} if self.commit else {"sha256": _digest(self.folder)}


def find_model(name: str, revision: str | None, part: str) -> ModelFiles:
    """The files of a model, downloaded first where they are not on this disk.

    `part` is the config's section, for messages: "embeddings".

    Raises:
        ModelError: there is no such folder or model, or it cannot be downloaded.
    """
    if Path(name).is_dir():
        folder = Path(name).resolve()
        if not _is_whole(folder):
            wrong = f"{name!r} holds no model (config.json and weights)"
            raise ModelError(f"{part}.model", wrong, f"{_ALWAYS}.")
        return ModelFiles(folder)
    if not _NAME.fullmatch(name):
        raise ModelError(f"{part}.model", f"{name!r} is no folder", f"{_ALWAYS}.")
    folder = _find_kept(name, revision) or _download(name, revision, part)
    return ModelFiles(folder, folder.name)


def _find_kept(name: str, revision: str | None) -> Path | None:
    """The snapshot on this disk; None when there is none, or what is read of it is not whole.

    The hub's own look-up wants every file of the repository, those for other programs too. One
    that another program fetched may lack what says how the model is used.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    found = {
        file: try_to_load_from_cache(
            name, file, cache_dir=constants.HF_HUB_CACHE, revision=revision
        )
        for file in ("config.json", *_TELLING)
    }
    if any(found[file] is None for file in _TELLING):  # neither here nor known not to exist
        return None
    here = next((Path(path).parent for path in found.values() if isinstance(path, str)), None)
    return here if here is not None and _is_whole(here) else None


def _download(name: str, revision: str | None, part: str) -> Path:
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        # Asked first, and once: a download would try an unreachable hub for a minute.
        told = HfApi().model_info(name, revision=revision, timeout=15)
        return _fetch(name, revision, [each.rfilename for each in told.siblings or []])
    except OfflineModeIsEnabled as error:
        wrong = f"{name!r} is not on this disk, and HF_HUB_OFFLINE forbids to download it"
        raise ModelError(f"{part}.model", wrong, "Unset it once, or give a folder.") from error
    except HfHubHTTPError as error:
        raise _explain(name, revision, part, error.response.status_code) from error
    except (OSError, httpx.TransportError) as error:
        wrong = f"{name!r} is not on this disk, and huggingface.co cannot be reached"
        remedy = f"{_ALWAYS} and a connection to it."
        raise ModelError(f"{part}.model", wrong, remedy) from error


def _fetch(name: str, revision: str | None, files: list[str]) -> Path:
    """Download what is read of a model, weights last: where they are, all is."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    for file in _TELLING:
        if file not in files:
            with suppress(EntryNotFoundError):  # which is then kept in mind
                hf_hub_download(name, file, revision=revision)
    weights, others = _choose(files)
    snapshot_download(name, revision=revision, allow_patterns=others)
    return Path(snapshot_download(name, revision=revision, allow_patterns=weights))


def _explain(name: str, revision: str | None, part: str, status: int) -> ModelError:
    at = f" at {revision!r}" if revision else ""
    if status in {401, 403}:
        wrong = f"huggingface.co does not give out {name!r}{at} ({status}): misspelt or closed"
        return ModelError(f"{part}.model", wrong, "For a closed model, set HF_TOKEN.")
    if status == 404:
        wrong = f"huggingface.co has no model {name!r}{at}"
        return ModelError(f"{part}.model", wrong, f"{_ALWAYS}.")
    wrong = f"huggingface.co failed ({status}) when asked for {name!r}{at}"
    return ModelError(f"{part}.model", wrong, "Try again later.")


def _choose(files: list[str]) -> tuple[list[str], list[str]]:
    """Weights, and the others that are read: no second copy of the weights, no Python, nothing for
    other programs.
    """
    weights = [f for f in files if "/" not in f and f.endswith(".safetensors")]
    weights = weights or [f for f in files if re.fullmatch(r"pytorch_model[\w.-]*\.bin", f)]
    layers = [f for f in files if re.fullmatch(r"\d+_\w+/(?:model\.safetensors)", f)]
    layers = layers or [f for f in files if re.fullmatch(r"\d+_\w+/pytorch_model\.bin", f)]
    return weights, [*layers, *filter(_NEEDED.fullmatch, files)]


def _is_whole(folder: Path) -> bool:
    """Whether the folder holds a model with all of its weights."""
    if not any((folder / name).is_file() for name in ("config.json", "modules.json")):
        return False
    listed = [
        *folder.glob("*.safetensors.index.json"),
        *folder.glob("pytorch_model.bin.index.json"),
    ]
    for index in listed:
        parts = set(json.loads(index.read_text("utf-8")).get("weight_map", {}).values())
        if all((folder / part).is_file() for part in parts):
            return True
    if listed:
        return False
    return any(any(folder.glob(f"**/{pattern}")) for pattern in _WEIGHTS)


def _digest(folder: Path) -> str:
    """The checksum of every file that decides vectors, by name."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        decides = _NEEDED.fullmatch(name) or any(path.match(pattern) for pattern in _WEIGHTS)
        if path.is_file() and decides:
            state = path.stat()
            total.update(
                f"{name}\0{_digest_file(path, state.st_size, state.st_mtime_ns)}\n".encode()
            )
    return total.hexdigest()


@cache
def _digest_file(path: Path, size: int, changed: int) -> str:  # noqa: ARG001  (they are the key)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
