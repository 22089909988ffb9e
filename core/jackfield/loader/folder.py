"""Where a model's files are: a local folder, or a repository on the Hugging Face hub that is downloaded once."""

from __future__ import annotations

import re
from pathlib import Path

from jackfield.config.json_fields import ConfigError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WANTED_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def model_folder(name: str) -> Path:
    """The local folder of `name`, a folder or a hub name like `org/model`; ConfigError says why there is none."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ConfigError(f"Wanted a model folder; {name} is a file. Give the folder that holds config.json")
    if not _HUB_NAME.fullmatch(name):
        raise ConfigError(
            f"No folder {name}. Give the folder of a Hugging Face checkpoint, or a hub name like org/model"
        )
    return _download(name)


def checkpoint_bytes(folder: Path) -> int:
    """Bytes of all weight files of a model folder; 0 when it has none."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download  # slow to import, and local folders do without

    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED_FILES))
    except Exception as error:  # the hub's client, its transport and the disk each raise their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"No local folder {name}, and it could not be downloaded from the Hugging Face hub: {reason}. "
            "Download it elsewhere and give the folder"
        ) from error
