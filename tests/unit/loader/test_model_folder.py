"""Names of models become folders, or errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from jackfield.config.json_fields import ConfigError
from jackfield.loader.folder import model_folder


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert model_folder(str(tmp_path)) == tmp_path


def test_a_hub_name_is_downloaded_without_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def download(name: str, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert model_folder("some-org/some-model") == tmp_path
    assert "*.safetensors" in asked["some-org/some-model"]
    assert not any(pattern.endswith((".bin", ".pt", "*")) for pattern in asked["some-org/some-model"])


def test_a_failed_download_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, allow_patterns: list[str]) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ConfigError, match=r"some-org/some-model.*no route to host"):
        model_folder("some-org/some-model")


def test_other_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No folder \./nowhere"):
        model_folder("./nowhere")
    file = tmp_path / "weights.gguf"
    file.touch()
    with pytest.raises(ConfigError, match="is a file"):
        model_folder(str(file))
