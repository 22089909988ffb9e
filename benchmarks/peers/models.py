"""The random-weight checkpoints, and what each peer makes of them. Made once and kept under the root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from peers.floors import Shape
from peers.installs import InstallFailed, Installs

MAKE_CHECKPOINT = Path(__file__).parents[1] / "make_checkpoint.py"
CONVERT_GGUF = Path(__file__).with_name("gguf_convert.py")
ENCODED_BYTES = {"int8": (1, 2), "int8-all": (1, 1), "int4": (0.5625, 2), "int4-all": (0.5625, 1)}
"""Bytes of a number in a layer and in the head, by our name of what plain weights become while they are loaded."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class Models:
    """One shape in all the forms in which engines want it."""

    def __init__(self, installs: Installs, shape: str) -> None:
        self._installs = installs
        self._shape = shape
        self._folder = installs.root / "models"
        self.checkpoint = self._folder / shape

    def prepare(self, files: str) -> Path:
        """The files' place, after they were made if need be; InstallFailed."""
        made = {"safetensors": self.checkpoint}.get(files, self._folder / f"{self._shape}.{files}")
        if not made.exists():
            print(f"making {made}", flush=True)
            self._make(files, made)
        return made

    def shape(self) -> Shape:
        """What floors depend on."""
        return Shape.of(json.loads((self.prepare("safetensors") / "config.json").read_text()))

    def context(self) -> int:
        """The longest sequence of the model."""
        config = json.loads((self.prepare("safetensors") / "config.json").read_text())
        return int(config["max_position_embeddings"])

    def weight_bytes(self, files: str, quantization: str | None) -> float:
        """What a step reads of the weights: the files' size, or that of what is encoded while it is loaded.

        The heads of these shapes are tied to the embedding, so that all of a file is read.
        """
        if quantization is not None:
            shape = self.shape()
            layer, head = ENCODED_BYTES[quantization]
            return shape.layers * shape.layer_weights * layer + shape.head_weights * head
        place = self.prepare(files)
        if place.is_file():
            return place.stat().st_size
        kind = "*.safetensors" if files == "safetensors" else "openvino_model.bin"
        return sum(file.stat().st_size for file in place.glob(kind))

    def _make(self, files: str, made: Path) -> None:
        """Under another name first, so that what is broken off is not taken for whole."""
        self._folder.mkdir(exist_ok=True)
        part = made.with_name(f"part-{made.name}")
        format, _, kind = files.partition("-")
        if format == "safetensors":
            command = [sys.executable, str(MAKE_CHECKPOINT), self._shape, str(part)]
        elif format == "openvino":
            export = [
                self._bin("openvino", "optimum-cli"),
                "export",
                "openvino",
                "--model",
                str(self.prepare("safetensors")),
            ]
            int4 = ["--sym", "--group-size", "128", "--ratio", "1.0"] if kind == "int4" else []
            command = [*export, "--task", "text-generation-with-past", "--weight-format", kind, *int4, str(part)]
        elif kind == "bf16":
            source = str(self._installs.llama_source)
            command = [
                self._installs.python("hf"),
                str(CONVERT_GGUF),
                source,
                str(self.prepare("safetensors")),
                str(part),
            ]
        else:
            quantize = str(self._installs.llama_programs / "llama-quantize")
            command = [quantize, str(self.prepare("gguf-bf16")), str(part), kind.upper()]
        self._run(files, command)
        part.rename(made)

    def _bin(self, peer: str, program: str) -> str:
        return str(Path(self._installs.python(peer)).parent / program)

    def _run(self, files: str, command: Sequence[str]) -> None:
        log = self._installs.logs / f"make-{self._shape}-{files}.log"
        with log.open("w") as out:
            done = subprocess.run(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **OFFLINE},
                cwd=self._folder,
                check=False,
            )
        if done.returncode:
            raise InstallFailed(f"{Path(command[0]).name} could not make {files} of {self._shape}; see {log}")
