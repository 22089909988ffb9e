from __future__ import annotations

import json
from pathlib import Path

import pytest

from jackfield.field_error import FieldError
from jackfield.frontend.messages import plain_messages
from jackfield.frontend.tokenizer import Tokenizer, TokenizerError


def test_a_saved_tokenizer_is_the_same_again(byte_level: Tokenizer, tmp_path: Path) -> None:
    byte_level.hf.save_pretrained(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    text = "the quick 🙂 <名> Köln"
    assert loaded.encode(text) == byte_level.encode(text)
    assert loaded.decode(loaded.encode(text)) == text
    assert loaded.special_ids == byte_level.special_ids
    assert loaded.is_byte_level
    messages = [{"role": "user", "content": "hi"}]
    assert loaded.render_chat(messages, add_generation_prompt=True) == "[user]hi[assistant]"


def test_a_tokenizer_of_a_class_with_code_of_its_own_goes_through_autotokenizer(
    byte_level: Tokenizer, tmp_path: Path
) -> None:
    byte_level.hf.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "Qwen2Tokenizer"}))
    loaded = Tokenizer.load(tmp_path)
    assert type(loaded.hf).__name__.startswith("Qwen2")
    assert loaded.decode(loaded.encode("the quick 🙂 brown")) == "the quick 🙂 brown"


def test_a_folder_without_a_tokenizer_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(TokenizerError, match=r"model\.safetensors"):
        Tokenizer.load(tmp_path)
    with pytest.raises(TokenizerError, match="is none"):
        Tokenizer.load(tmp_path / "missing")


def test_a_model_without_a_chat_template_says_what_to_do(byte_fallback: Tokenizer) -> None:
    with pytest.raises(FieldError, match="no chat template") as caught:
        byte_fallback.render_chat([{"role": "user", "content": "hi"}])
    assert caught.value.code == "no_chat_template"


def test_a_template_that_refuses_gives_its_reason(byte_level: Tokenizer) -> None:
    with pytest.raises(FieldError, match="only two"):
        byte_level.render_chat([{"role": "user", "content": "hi"}], chat_template="{{ raise_exception('only two') }}")


def test_tokens_alone_have_bytes_even_where_they_are_part_of_a_character(byte_level: Tokenizer) -> None:
    ids = byte_level.encode("🙂")
    assert b"".join(map(byte_level.token_bytes, ids)) == "🙂".encode()
    (end,) = byte_level.special_ids
    assert byte_level.token_text(end) == "<end>"


def test_text_parts_become_one_string() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    plain = plain_messages([{"role": "developer", "content": content}, {"role": "user", "content": "c", "name": "x"}])
    assert plain == [{"role": "system", "content": "a\nb"}, {"role": "user", "content": "c", "name": "x"}]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("hi", "messages[0]"),
        ({"role": "wizard", "content": "a"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": []}, "messages[0].content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
    ],
)
def test_messages_that_cannot_be_served_are_refused_by_path(message: object, field: str) -> None:
    with pytest.raises(FieldError) as caught:
        plain_messages([message])
    assert caught.value.field == field
