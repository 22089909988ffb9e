from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

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


def test_a_plain_tokenizer_is_read_without_transformers(byte_level: Tokenizer, tmp_path: Path) -> None:
    byte_level.hf.save_pretrained(tmp_path)
    code = (
        "import sys; from jackfield.frontend.tokenizer import Tokenizer; t = Tokenizer.load(sys.argv[1]);"
        "print(t.encode(sys.argv[2]), t.has_chat_template, t.vocab_size, 'transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "the quick <名>"], capture_output=True, text=True, check=True
    )
    wanted = byte_level.hf.encode("the quick <名>")
    assert done.stdout.strip() == f"{wanted} True {len(byte_level.hf)} False"


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("named", [{"pad_token": "<pad>"}, {"extra_special_tokens": ["<pad>"]}])
def test_a_token_that_only_another_file_names_is_there_too(
    byte_level: Tokenizer, tmp_path: Path, file: str, named: dict[str, object]
) -> None:
    byte_level.hf.save_pretrained(tmp_path)
    path = tmp_path / file
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**config, **named}))
    ours, theirs = Tokenizer.load(tmp_path), PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert ours.encode("a<pad>b") == theirs.encode("a<pad>b")
    assert ours.special_ids == {token for token, entry in theirs.added_tokens_decoder.items() if entry.special}


def test_a_prompt_is_never_cut(byte_level: Tokenizer, tmp_path: Path) -> None:
    byte_level.hf.save_pretrained(tmp_path)
    state = json.loads((tmp_path / "tokenizer.json").read_text())
    state["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    assert len(Tokenizer.load(tmp_path).encode("the quick brown fox")) > 3


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
