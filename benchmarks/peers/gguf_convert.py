"""A checkpoint to GGUF with llama.cpp's own converter, in bfloat16.

    python gguf_convert.py LLAMA_CPP CHECKPOINT FILE

The converter knows tokenizers by a hash of what they make of a text, and ours was never published: it is told that the
tokenizer splits as GPT-2's does.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Run the converter with one answer given beforehand."""
    source, checkpoint, file = sys.argv[1:]
    sys.path[0:1] = [source, str(Path(source) / "gguf-py")]
    from conversion import base

    for value in list(vars(base).values()):
        if isinstance(value, type) and "get_vocab_base_pre" in vars(value):
            value.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    sys.argv = ["convert_hf_to_gguf.py", checkpoint, "--outfile", file, "--outtype", "bf16"]
    runpy.run_path(str(Path(source) / "convert_hf_to_gguf.py"), run_name="__main__")


if __name__ == "__main__":
    main()
