"""Tokenizers of the two kinds, small, made once a run."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from jackfield.engine.model_info import ModelInfo
from jackfield.frontend.requests import RequestBuilder
from jackfield.frontend.tokenizer import Tokenizer

TEXT = [
    "the quick brown fox jumps over the lazy dog. " * 4,
    "Grüße aus Köln, 你好世界, здравствуй мир!",
    "a b c 1 2 3\n\n",
]
TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    """Byte-level BPE with a special end token and an added plain one: emoji fall apart into bytes."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    backend.train_from_iterator(TEXT, trainer)
    backend.add_tokens([AddedToken("<名>", special=False)])
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", chat_template=TEMPLATE))


@pytest.fixture(scope="session")
def byte_fallback() -> Tokenizer:
    """BPE over characters that spells unknown ones in bytes and spaces as a low line, as sentencepiece models do."""
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pieces += [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("o", "u")]
    pieces += ["".join(pair) for pair in merges]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend = Backend(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["</s>"])
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>"))


@pytest.fixture
def model(byte_level: Tokenizer) -> ModelInfo:
    """A model with a context of 64 tokens and more ids than the tokenizer knows."""
    return ModelInfo(
        name="small",
        max_model_len=64,
        vocab_size=512,
        eos_token_ids=frozenset(byte_level.special_ids),
        tokenizer="",
        default_sampling={"temperature": 0.5},
    )


@pytest.fixture
def builder(byte_level: Tokenizer, model: ModelInfo) -> RequestBuilder:
    """Requests for that model."""
    return RequestBuilder(byte_level, model, seed=7)
