"""What generations of GPUs can do, and how the driver's numbers become names."""

from __future__ import annotations

import pytest

from jackfield_gpu.arch import UnknownArchError, amd, gfx_name, nvidia


@pytest.mark.parametrize(
    ("capability", "fp8", "shared_kib"),
    [
        ((8, 0), None, 163),
        ((8, 6), None, 99),
        ((8, 7), None, 163),
        ((8, 9), "float8_e4m3fn", 99),
        ((9, 0), "float8_e4m3fn", 227),
        ((10, 0), "float8_e4m3fn", 227),
        ((10, 3), "float8_e4m3fn", 227),
        ((12, 0), "float8_e4m3fn", 99),
    ],
)
def test_nvidia_s_compute_capabilities(capability, fp8, shared_kib):
    arch = nvidia(*capability)
    assert (arch.name, arch.fp8, arch.shared_bytes >> 10) == (f"sm_{capability[0]}{capability[1]}", fp8, shared_kib)
    assert arch.dtypes[0] == "bfloat16"
    assert arch.warp == 32


@pytest.mark.parametrize(
    ("name", "fp8", "warp"),
    [
        ("gfx90a:sramecc+:xnack-", None, 64),
        ("gfx942", "float8_e4m3fnuz", 64),
        ("gfx950", "float8_e4m3fn", 64),
        ("gfx1100", None, 32),
    ],
)
def test_amd_s_names(name, fp8, warp):
    arch = amd(name)
    assert (arch.name, arch.fp8, arch.warp) == (name.partition(":")[0], fp8, warp)


def test_a_gpu_that_the_kernels_were_not_written_for_is_told():
    with pytest.raises(UnknownArchError, match=r"compute capability 7\.5 is below 8\.0"):
        nvidia(7, 5)
    with pytest.raises(UnknownArchError, match="gfx906 is none of gfx90a, gfx942"):
        amd("gfx906")


@pytest.mark.parametrize(
    ("version", "name"),
    [(90402, "gfx942"), (90010, "gfx90a"), (90500, "gfx950"), (110000, "gfx1100"), (120001, "gfx1201")],
)
def test_the_driver_s_version_numbers_are_names(version, name):
    assert gfx_name(version) == name
