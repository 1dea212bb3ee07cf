"""From what `--model` says to a folder on disk: a shipped name, a folder, or a hub id.

Covers finding and, for a hub id, downloading; not what the folder holds, which the checkpoint reader checks.
Loads no torch.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from octavo.config.errors import CheckpointError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
ALL_FILES = ("*.safetensors", "*.json")


def shelves() -> list[Path]:
    """The folders that hold shipped models, in the order they are looked at.

    `OCTAVO_WEIGHTS` if it is set; `weights` inside the installed package; `weights` beside it, as in a checkout.
    """
    package = Path(__file__).resolve().parent.parent
    chosen = os.environ.get("OCTAVO_WEIGHTS")
    return [*([Path(chosen)] if chosen else []), package / "weights", package.parent / "weights"]


def shipped() -> dict[str, Path]:
    """Name -> folder of every shipped model that is present; the first shelf wins."""
    found: dict[str, Path] = {}
    for shelf in shelves():
        for config in sorted(shelf.glob("*/config.json")):
            found.setdefault(config.parent.name, config.parent)
    return found


def locate(model: str | os.PathLike[str], *, files: tuple[str, ...] = ALL_FILES) -> Path:
    """The folder of `model`: a shipped name, an existing folder, or a hub id `owner/name` (downloaded or cached).

    A shipped name wins over a folder of the same name in the working directory; write `./name` for that folder.
    `files` are the patterns of what is downloaded for a hub id.

    Raises:
        CheckpointError: nothing of that name is shipped, on disk, or to be had from the hub.
    """
    name = os.fspath(model)
    models = shipped()
    if name in models:
        return models[name]
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"model {name!r} is a file: give the folder that holds config.json and the weights")
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return _download(name, files)
    known = ", ".join(models) or "none"
    raise CheckpointError(f"unknown model {name!r}: no folder of that name; shipped: {known}; or a hub id owner/name")


def _download(hub_id: str, files: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(files)))
    except HFValidationError as error:
        raise CheckpointError(f"model {hub_id!r} is no folder and no valid hub id") from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"model {hub_id!r} is no folder here, is not in the hub's local cache, and the hub cannot be reached"
        ) from error
    except HfHubHTTPError as error:
        raise CheckpointError(f"model {hub_id!r} is no folder here, and the hub refused it: {error}") from error
    except (OSError, RuntimeError) as error:  # the network libraries of the hub client raise many kinds
        raise CheckpointError(f"model {hub_id!r} is no folder here, and its download failed: {error}") from error
