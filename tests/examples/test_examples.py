from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
SHOWN_HERE = {"offline_batch.py", "stream_chat.py", "async_stream.py", "vllm_script.py"}


def run(name: str, *arguments: str) -> list[str]:
    """The lines that an example prints; warnings are errors there too."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_script_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == SHOWN_HERE


def test_offline_batch() -> None:
    lines = [line.split(" -> ", 1) for line in run("offline_batch.py")]
    prompts = ["The list type", "A decorator is", "The json module"]
    assert [left for left, _ in lines] == [*map(repr, prompts * 2), "chat"]
    texts = [ast.literal_eval(text) for _, text in lines[:6]]
    greedy, mixed = texts[:3], texts[3:]
    assert all(greedy)
    assert [len(answers) for answers in mixed] == [1, 1, 2]
    assert mixed[0] == greedy[:1]  # the same request twice
    assert re.fullmatch(r"'.+' \((stop|length)\)", lines[6][1])


def test_stream_chat(server_url: str) -> None:
    *words, counts = run("stream_chat.py", server_url)
    assert "".join(words).strip()
    match = re.fullmatch(r"\((\d+) tokens read, (\d+) written\)", counts)
    assert match is not None
    assert int(match[1]) > 8
    assert 4 <= int(match[2]) <= 48


def test_async_stream() -> None:
    *updates, texts, left = run("async_stream.py")
    joined: dict[str, str] = {}
    for update in updates:
        prompt, _, new = update.partition(": +")
        joined[prompt] = joined.get(prompt, "") + ast.literal_eval(new)
    assert sorted(joined.values()) == sorted(ast.literal_eval(texts))
    assert len(updates) > len(joined)  # they came in pieces
    match = re.fullmatch(r"A generator is: left after (\d+) tokens", left)
    assert match is not None
    assert int(match[1]) >= 3


def test_vllm_script() -> None:
    embedded = EXAMPLES.parent / "core" / "jackfield" / "embedded"
    *answers, count = [line for line in run("vllm_script.py", str(embedded)) if line.strip()]
    assert len(answers) == 3
    for number, answer in enumerate(answers):
        assert re.fullmatch(rf"{number}: (['\"]).+\1 \((stop|length)\), mean logprob -\d+\.\d\d", answer)
    assert re.fullmatch(r"\d+ tokens", count)
