from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from jackfield.frontend.stop_strings import StopStrings


def run(stops: list[str], pieces: list[str], *, include_stop: bool = False) -> tuple[str, str | None]:
    watcher, shown = StopStrings(stops, include_stop=include_stop), ""
    for piece in pieces:
        passed = watcher.feed(piece)
        shown += passed.text
        if passed.stop is not None:
            return shown, passed.stop
    return shown + watcher.flush(), None


def test_a_stop_string_over_three_pieces_is_cut_off() -> None:
    assert run(["END"], ["abE", "N", "Dxyz"]) == ("ab", "END")


def test_it_is_shown_when_asked_for() -> None:
    assert run(["END"], ["abE", "N", "Dxyz"], include_stop=True) == ("abEND", "END")


def test_text_that_may_begin_a_stop_string_is_held_back() -> None:
    watcher = StopStrings(["\n\nUser:"], include_stop=False)
    assert watcher.feed("hi\n").text == "hi"
    assert watcher.feed("\n").text == ""
    assert watcher.feed("there").text == "\n\nthere"


def test_the_end_gives_back_what_was_held() -> None:
    assert run(["END"], ["abE", "N"]) == ("abEN", None)


def test_a_beginning_inside_a_beginning_is_kept() -> None:
    assert run(["aab"], ["a", "a", "a", "b"]) == ("a", "aab")


def test_the_stop_string_that_is_complete_first_wins() -> None:
    assert run(["abcd", "c"], ["abcd"]) == ("ab", "c")
    assert run(["bc", "abc"], ["xabc"]) == ("x", "abc")


def test_before_min_tokens_it_passes_and_does_not_count_later() -> None:
    watcher = StopStrings(["END"], include_stop=False)
    assert watcher.feed("xEND", may_stop=False).text == "xEND"
    assert watcher.feed("y").text == "y"


STOPS = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3)


@settings(max_examples=500, deadline=None)
@given(
    stops=STOPS, text=st.text("abc", max_size=25), cuts=st.lists(st.integers(1, 4), max_size=25), include=st.booleans()
)
def test_the_answer_does_not_depend_on_the_cuts(stops: list[str], text: str, cuts: list[int], include: bool) -> None:
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(text[at : at + cut])
        at += cut
    got = run(stops, [*pieces, text[at:]], include_stop=include)
    assert got == run(stops, list(text), include_stop=include)
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    expected = text if not ends else text[: min(ends)] if include else text[: min(ends)].removesuffix(got[1] or "")
    assert got[0] == expected
