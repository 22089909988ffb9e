"""Tensors as quantised checkpoints hold them, with the numbers that they stand for; numpy, and nothing of ours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Exact = np.ndarray  # float64 [out, in]


def words(numbers: np.ndarray, bits: int) -> Tensor:
    """Numbers `[n, other]` to int32 `[n * bits / 32, other]`, the first of a word in its lowest bits."""
    packed = np.zeros((numbers.shape[0] * bits // 32, numbers.shape[1]), dtype=np.uint32)
    for row in range(numbers.shape[0]):
        word, place = divmod(row * bits, 32)
        packed[word] |= numbers[row].astype(np.uint32) << np.uint32(place)
    return torch.from_numpy(packed.view(np.int32))


def gptq_groups(rng: np.random.Generator, in_size: int, group: int, is_shuffled: bool) -> np.ndarray:
    """The group of each input."""
    groups = np.arange(in_size) // group
    return rng.permutation(groups) if is_shuffled else groups


def gptq(
    rng: np.random.Generator, out_size: int, groups: np.ndarray, bits: int, *, symmetric: bool = False, offset: int = 1
) -> tuple[Tensors, Exact]:
    """A linear layer in AutoGPTQ's format (`offset` 1) or its second version (0); a few zero points lie at the ends."""
    in_size, num_groups = len(groups), groups.max() + 1
    numbers = rng.integers(0, 2**bits, (in_size, out_size))
    ends = offset, 2**bits - 1 + offset
    zeros = np.rint(rng.normal(2 ** (bits - 1), 2 ** (bits - 3), (num_groups, out_size))).astype(int).clip(*ends)
    if symmetric:
        zeros[:] = 2 ** (bits - 1)
    typical = in_size**-0.5 / 2**bits
    scales = rng.uniform(2 * typical, 6 * typical, (num_groups, out_size)).astype(np.float16)
    exact = (numbers - zeros[groups]) * scales[groups].astype(np.float64)
    return {
        "qweight": words(numbers, bits),
        "qzeros": words((zeros - offset).T, bits).T.contiguous(),
        "scales": torch.from_numpy(scales),
        "g_idx": torch.from_numpy(groups.astype(np.int32)),
    }, exact.T


def e4m3(codes: np.ndarray) -> np.ndarray:
    """What bytes mean as float8_e4m3fn: a sign, four bits of exponent (bias 7), three of fraction; no infinities."""
    sign, exponent, fraction = codes >> 7, (codes >> 3) & 15, codes & 7
    size = np.where(exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent.astype(int) - 7))
    return np.where(sign == 1, -size, size)


def block_fp8(
    rng: np.random.Generator, out_size: int, in_size: int, block: tuple[int, int] = (128, 128)
) -> tuple[Tensors, Exact]:
    """A linear layer in block-wise float8."""
    codes = rng.integers(0, 256, (out_size, in_size)).astype(np.uint8)
    codes[(codes & 127) == 127] = 0  # no NaN
    counts = (-(-out_size // block[0]), -(-in_size // block[1]))
    scales = rng.uniform(0.3, 3, counts).astype(np.float32) * np.float32(in_size**-0.5 / 100)
    exact = e4m3(codes)
    for row, column in np.ndindex(*counts):
        part = np.s_[row * block[0] : (row + 1) * block[0], column * block[1] : (column + 1) * block[1]]
        exact[part] *= scales[row, column].astype(np.float64)
    tensors = {
        "weight": torch.from_numpy(codes).view(torch.float8_e4m3fn),
        "weight_scale_inv": torch.from_numpy(scales),
    }
    return tensors, exact


def rounded_to_int8(weight: np.ndarray, group: int) -> Exact:
    """What symmetric int8 makes of a weight, its scales in float32."""
    grouped = weight.astype(np.float32).reshape(weight.shape[0], -1, group)
    scale = (np.abs(grouped).max(-1, keepdims=True) / np.float32(127)).astype(np.float32)
    numbers = np.round(grouped / np.where(scale == 0, np.float32(1), scale))
    return (numbers.astype(np.float64) * scale.astype(np.float64)).reshape(weight.shape)


def rounded_to_int4(weight: np.ndarray) -> Exact:
    """What int4 makes of a weight in groups of 32: the number farthest from zero is -8 steps, steps in float16."""
    grouped = weight.astype(np.float32).reshape(weight.shape[0], -1, 32)
    farthest = np.take_along_axis(grouped, np.abs(grouped).argmax(-1, keepdims=True), -1)
    step = (farthest / np.float32(-8)).astype(np.float16).astype(np.float32)
    numbers = np.clip(np.round(grouped / np.where(step == 0, np.float32(1), step)), -8, 7)
    return (numbers.astype(np.float64) * step.astype(np.float64)).reshape(weight.shape)


def awq(
    rng: np.random.Generator, out_size: int, in_size: int, group: int, *, middle: bool = False
) -> tuple[Tensors, Exact]:
    """A linear layer as AutoAWQ's gemm version has it; `middle`: all zero points are 8."""
    numbers = rng.integers(0, 16, (in_size, out_size))
    zeros = rng.integers(0, 16, (in_size // group, out_size))
    if middle:
        zeros[:] = 8
    scales = (rng.uniform(0.1, 0.4, zeros.shape) * in_size**-0.5).astype(np.float16)
    rows = np.arange(in_size) // group
    exact = (numbers - zeros[rows]) * scales[rows].astype(np.float64)
    tensors = {"qweight": awq_words(numbers), "qzeros": awq_words(zeros), "scales": torch.from_numpy(scales)}
    return tensors, exact.T


def awq_words(numbers: np.ndarray) -> Tensor:
    """Numbers of 0 to 15, `[n, out]`, to int32 `[n, out / 8]`: of eight first the even ones, then the odd."""
    packed = np.zeros((numbers.shape[0], numbers.shape[1] // 8), dtype=np.uint32)
    for place, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
        packed |= numbers[:, column::8].astype(np.uint32) << np.uint32(4 * place)
    return torch.from_numpy(packed.view(np.int32))


def row_scaled(
    rng: np.random.Generator, out_size: int, in_size: int, dtype: str, by_rows: bool
) -> tuple[Tensors, Exact]:
    """A linear layer in e4m3 floats or int8, with a scale a row or one for all."""
    codes = rng.integers(0, 256, (out_size, in_size)).astype(np.uint8)
    codes[(codes & 127) == 127] = 0  # no NaN
    scale = rng.uniform(0.3, 3, (out_size, 1) if by_rows else (1,)).astype(np.float32) * np.float32(in_size**-0.5 / 60)
    numbers = e4m3(codes) if dtype == "float8_e4m3fn" else codes.view(np.int8).astype(np.float64)
    tensors = {"weight": torch.from_numpy(codes).view(getattr(torch, dtype)), "weight_scale": torch.from_numpy(scale)}
    return tensors, numbers * scale.astype(np.float64)


def packed_ints(
    rng: np.random.Generator, out_size: int, groups: np.ndarray, bits: int, *, symmetric: bool = False
) -> tuple[Tensors, Exact]:
    """A linear layer in compressed-tensors' pack-quantized format, its scales in bfloat16."""
    in_size, half = len(groups), 2 ** (bits - 1)
    numbers = rng.integers(-half, half, (out_size, in_size))
    zeros = rng.integers(-half, half, (out_size, groups.max() + 1))
    if symmetric:
        zeros[:] = 0
    scales = torch.from_numpy(rng.uniform(1, 3, zeros.shape) * in_size**-0.5 / 2**bits).bfloat16()
    exact = (numbers - zeros[:, groups]) * scales.double().numpy()[:, groups]
    tensors = {
        "weight_packed": words((numbers + half).T, bits).T.contiguous(),
        "weight_scale": scales,
        "weight_shape": torch.tensor([out_size, in_size]),
        "weight_g_idx": torch.from_numpy(groups.astype(np.int32)),
    }
    if not symmetric:
        tensors["weight_zero_point"] = words(zeros + half, bits)
    return tensors, exact
