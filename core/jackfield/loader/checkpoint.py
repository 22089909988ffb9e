"""The tensors of a safetensors checkpoint, in the order in which they lie in its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

Box = tuple[tuple[int, int], ...]  # first and last, a dimension
INDEX = "model.safetensors.index.json"
_CHUNK_BYTES = 64 * 2**20
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
PLAIN = ("float32", "bfloat16", "float16")
"""torch names of the floats that weights are used in."""
_DTYPES = {
    **_FLOATS,
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
}


class LoadError(ValueError):
    """A checkpoint cannot be loaded. The message names files and tensors, what was wanted and what was found."""


class Stored(msgspec.Struct, frozen=True):
    """One tensor on disk. `dtype` is safetensors' code: BF16, F32, …; a number without dimensions counts as `[1]`."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    is_number: bool = False

    @property
    def is_float(self) -> bool:
        """Whether its numbers are plain floats that torch can convert."""
        return self.dtype in _FLOATS

    def converts_to(self, dtype: torch.dtype) -> bool:
        """Whether it may be loaded as `dtype`: one plain float as another, everything else as what it is."""
        return _DTYPES.get(self.dtype) == dtype or (self.is_float and dtype in _FLOATS.values())

    @property
    def whole(self) -> Box:
        """All of it."""
        return tuple((0, size) for size in self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one step along the first dimension."""
        return self.item_bytes * int(torch.Size(self.shape[1:]).numel())

    @property
    def item_bytes(self) -> int:
        """Bytes of one number."""
        return _DTYPES[self.dtype].itemsize if self.dtype in _DTYPES else 1


class Checkpoint:
    """`tensors[name]`, file after file, in the order of their offsets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tensors: dict[str, Stored] = {}
        for file in _files(folder):
            self._add(file)
        self._check_index()

    def chunks(self, name: str, box: Box | None = None) -> Iterator[tuple[int, Tensor]]:
        """(first row, rows) of a tensor, a few megabytes at a time; copy them out before asking for the next.

        `box` is the part that is read, and rows count from its first. The file is mapped anew for each chunk: mapped
        pages count as resident memory until they are unmapped.
        """
        stored = self.tensors[name]
        if stored.is_number:
            with safe_open(stored.file, framework="pt") as file:
                yield 0, file.get_tensor(name).reshape(1)
            return
        (start, stop), *others = stored.whole if box is None else box
        rows = max(1, _CHUNK_BYTES // max(1, stored.row_bytes))
        for first in range(start, stop, rows):
            with safe_open(stored.file, framework="pt") as file:
                part = (slice(first, min(first + rows, stop)), *(slice(*ends) for ends in others))
                yield first - start, file.get_slice(name)[part]

    def equal(self, one: str, other: str, boxes: Sequence[Box]) -> bool:
        """Whether two tensors hold the same numbers in some parts."""
        if self.tensors[one].shape != self.tensors[other].shape or self.tensors[one].dtype != self.tensors[other].dtype:
            return False
        pairs = (zip(self.chunks(one, box), self.chunks(other, box), strict=True) for box in boxes)
        return all(torch.equal(a, b) for pair in pairs for (_, a), (_, b) in pair)

    def _add(self, file: Path) -> None:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.offset_keys():
                    if name in self.tensors:
                        raise LoadError(f"{name} is both in {self.tensors[name].file.name} and in {file.name}")
                    part = opened.get_slice(name)
                    shape = tuple(part.get_shape())
                    self.tensors[name] = Stored(file, shape or (1,), part.get_dtype(), is_number=not shape)
        except SafetensorError as error:
            raise LoadError(f"{file} is not a complete safetensors file: {error}") from None

    def _check_index(self) -> None:
        index = self.folder / INDEX
        if index.is_file():
            missing = [name for name in _weight_map(index) if name not in self.tensors]
            if missing:
                raise LoadError(f"{index} lists tensors that its files do not hold: {listed(missing)}")


def _files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.is_file():
        files = [folder / name for name in sorted(set(_weight_map(index).values()))]
        absent = [file.name for file in files if not file.is_file()]
        if absent:
            raise LoadError(f"{index} lists files that are not there: {listed(absent)}. Download them again")
        return files
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    found = sorted(
        file.name for pattern in ("*.safetensors", "*.bin", "*.pt", "*.pth") for file in folder.glob(pattern)
    )
    raise LoadError(
        f"Wanted model.safetensors or {INDEX} in {folder}; found {listed(found) if found else 'no weights'}. "
        "Only safetensors are loaded (a pickle may run code): convert other formats first"
    )


def _weight_map(index: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(index.read_bytes(), type=_Index).weight_map
    except msgspec.DecodeError as error:
        raise LoadError(f"{index} is no index of safetensors files: {error}") from None


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def listed(names: list[str], most: int = 8) -> str:
    """Names for a message; a long list is cut, and says so."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
