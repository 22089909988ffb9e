from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jackfield.frontend.detokenizer import ByteDetokenizer, Detokenizer, WindowDetokenizer, make_detokenizer
from jackfield.frontend.tokenizer import Tokenizer

HARD = "Flags 🇩🇪👨‍👩‍👧 and 漢字かな交じり文, Ünïcödé — the end 🙂."


def pieces(detokenizer: Detokenizer, ids: Sequence[int]) -> list[str]:
    return [*(detokenizer.feed([token]) for token in ids), detokenizer.flush()]


def test_the_kind_follows_from_the_tokenizer(byte_level: Tokenizer, byte_fallback: Tokenizer) -> None:
    assert isinstance(make_detokenizer(byte_level, [], skip_special_tokens=True), ByteDetokenizer)
    assert isinstance(make_detokenizer(byte_fallback, [], skip_special_tokens=True), WindowDetokenizer)


def test_characters_split_over_tokens_are_never_shown_in_part(byte_level: Tokenizer, byte_fallback: Tokenizer) -> None:
    for tokenizer, text in ((byte_level, HARD), (byte_fallback, HARD.lower())):
        ids = tokenizer.encode(text)
        assert len(ids) > len(text), "some characters must fall apart, or this shows nothing"
        got = pieces(make_detokenizer(tokenizer, [], skip_special_tokens=True), ids)
        assert "".join(got) == text
        assert not any("\ufffd" in piece for piece in got)
        assert "" in got[:-1], "text was held back somewhere"


@settings(max_examples=300, deadline=None)
@given(
    ids=st.lists(st.integers(0, 420), max_size=40), cuts=st.lists(st.integers(1, 5), max_size=40), skip=st.booleans()
)
def test_any_tokens_in_any_portions_give_the_text_of_the_whole(
    byte_level: Tokenizer, ids: list[int], cuts: list[int], skip: bool
) -> None:
    detokenizer = make_detokenizer(byte_level, [], skip_special_tokens=skip)
    text, at = "", 0
    for cut in [*cuts, len(ids) + 1]:
        text += detokenizer.feed(ids[at : at + cut])
        at += cut
    assert text + detokenizer.flush() == byte_level.decode(ids, skip_special_tokens=skip)


WITHOUT_REPLACEMENTS = st.text(st.characters(exclude_characters="\ufffd", codec="utf-8"), max_size=30)


@settings(max_examples=100, deadline=None)
@given(prompt=WITHOUT_REPLACEMENTS, answer=WITHOUT_REPLACEMENTS)
def test_the_answer_continues_the_prompt_byte_level(byte_level: Tokenizer, prompt: str, answer: str) -> None:
    ids = byte_level.encode(prompt + answer)
    cut = len(byte_level.encode(prompt))
    got = "".join(pieces(make_detokenizer(byte_level, ids[:cut], skip_special_tokens=False), ids[cut:]))
    assert "\ufffd" not in got
    assert (prompt + answer).endswith(got)


@settings(max_examples=100, deadline=None)
@given(text=st.text("abcthe ou 你好🙂", max_size=30))
def test_the_answer_continues_the_prompt_windowed(byte_fallback: Tokenizer, text: str) -> None:
    prompt = byte_fallback.encode("the start")
    ids = byte_fallback.encode("the start" + text)[len(prompt) :]
    whole = byte_fallback.decode([*prompt, *ids])
    got = pieces(make_detokenizer(byte_fallback, prompt, skip_special_tokens=True), ids)
    assert "the start" + "".join(got) == whole
    assert not any("\ufffd" in piece for piece in got)


def test_a_space_at_the_start_of_an_answer_is_kept(byte_fallback: Tokenizer) -> None:
    prompt, whole = byte_fallback.encode("ou"), byte_fallback.encode("ou the")
    answer = whole[len(prompt) :]
    assert byte_fallback.decode(answer) == "the"
    assert "".join(pieces(make_detokenizer(byte_fallback, prompt, skip_special_tokens=True), answer)) == " the"


def test_a_character_begun_in_the_prompt_is_completed_in_the_answer(byte_level: Tokenizer) -> None:
    ids = byte_level.encode("🙂")
    assert len(ids) > 1
    detokenizer = make_detokenizer(byte_level, ids[:-1], skip_special_tokens=True)
    assert detokenizer.feed(ids[-1:]) == "🙂"


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_an_unfinished_character_is_shown_at_the_end_only(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    ids = tokenizer.encode("a🙂")[:-1]
    detokenizer = make_detokenizer(tokenizer, [], skip_special_tokens=True)
    assert "".join(detokenizer.feed([token]) for token in ids) == "a"
    assert set(detokenizer.flush()) == {"\ufffd"}


def test_bytes_that_are_no_character_do_not_hold_text_back_for_ever(byte_fallback: Tokenizer) -> None:
    stray = byte_fallback.hf.convert_tokens_to_ids("<0x80>")
    detokenizer = make_detokenizer(byte_fallback, [], skip_special_tokens=True)
    assert any(detokenizer.feed([stray]) for _ in range(20))


def test_ids_without_a_spelling_have_no_text(byte_level: Tokenizer) -> None:
    assert make_detokenizer(byte_level, [], skip_special_tokens=True).feed([511]) == ""
