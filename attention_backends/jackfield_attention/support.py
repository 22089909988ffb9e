"""What both torch backends can and cannot serve."""

from __future__ import annotations

from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.kv import Latent, Paged, Windowed

DTYPES = ("float32", "bfloat16", "float16")
KINDS = (Paged, Windowed, Latent)
BLOCK_SIZES = (16, *(size for size in range(8, 513, 8) if size != 16))  # tokens; the preferred one first


def unsupported(need: AttentionNeed) -> str | None:
    """The first reason why plain torch operations cannot serve `need`, or None."""
    if need.kv.dtype not in DTYPES:
        return f"cache dtype {need.kv.dtype} is none of {', '.join(DTYPES)}"
    if need.query_dtype not in DTYPES:
        return f"query dtype {need.query_dtype} is none of {', '.join(DTYPES)}"
    if need.query_heads % need.kv.kv_heads:
        return f"{need.query_heads} query heads are no multiple of {need.kv.kv_heads} kv heads"
    return None
