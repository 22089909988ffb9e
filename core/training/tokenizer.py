"""The tokenizer: byte-level BPE, three special tokens, and a ChatML-like template."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = [END_OF_TEXT, START, END]  # ids 0, 1, 2
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn the merges; the special tokens come first, and every byte has a token, so any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def wrap(tokenizer: Tokenizer, max_len: int) -> PreTrainedTokenizerFast:
    """The same tokenizer as transformers knows it, with the chat template."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_settings(max_len))


def save(tokenizer: Tokenizer, max_len: int, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, the template inside, as transformers 4 and 5 both read them."""
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | _settings(max_len)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _settings(max_len: int) -> dict[str, str | int]:
    return {
        "clean_up_tokenization_spaces": False,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "chat_template": TEMPLATE,
        "model_max_length": max_len,
    }
