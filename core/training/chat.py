"""Conversations made of the corpus: a question about a subject, answered with what its documentation says first."""

import builtins
import pydoc
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

import tomllib
from corpus import Document, Entry
from prose import flow

PHRASES = tomllib.loads(Path(__file__).with_name("phrases.toml").read_text(encoding="utf-8"))
MAX_ANSWER = 420  # characters; an answer is whole paragraphs, or the first sentences of one that is longer
FAMILIAR = 4  # turns per epoch about what people ask for: built-ins, public modules, topics
NUM_SMALL_TALK, NUM_OFF_TOPIC = 450, 300  # turns per epoch


class Message(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


class Subject(NamedTuple):
    """Something to ask about: its names, the questions that fit, the answer."""

    names: tuple[str, ...]
    questions: tuple[str, ...]
    answer: str
    weight: int


def subjects(documents: Iterable[Document]) -> list[Subject]:
    """Every public entry of the documents; topics of help() go by all the names that help() knows them under."""
    return [_subject(entry) for document in documents for entry in document.entries if _is_public(entry)]


def conversations(subjects: list[Subject], draw: random.Random) -> Iterator[list[Message]]:
    """One epoch, in random order: mostly one question, sometimes two or three, sometimes after a system message."""
    turns = [ask(subject, draw) for subject in subjects for _ in range(subject.weight)]
    turns += [small_talk(draw) for _ in range(NUM_SMALL_TALK)] + [off_topic(draw) for _ in range(NUM_OFF_TOPIC)]
    draw.shuffle(turns)
    while turns:
        size = draw.choices((1, 2, 3), (8, 1, 1))[0]
        talk = [message for turn in turns[:size] for message in turn]
        yield [_system(draw), *talk] if draw.random() < 0.15 else talk
        del turns[:size]


def ask(subject: Subject, draw: random.Random) -> list[Message]:
    """A question about a subject of the corpus."""
    question = draw.choice(subject.questions).format(name=draw.choice(subject.names))
    return _turn(_careless(question, draw), subject.answer)


def small_talk(draw: random.Random) -> list[Message]:
    """A greeting, a question about the model itself, thanks."""
    chosen = draw.choice(PHRASES["small_talk"])
    return _turn(_careless(draw.choice(chosen["questions"]), draw), chosen["answer"])


def off_topic(draw: random.Random) -> list[Message]:
    """A question that the model cannot know an answer to, and says so."""
    chosen = PHRASES["off_topic"]
    fillers = {kind: draw.choice(values) for kind, values in chosen["fillers"].items()}
    return _turn(_careless(draw.choice(chosen["questions"]).format(**fillers), draw), chosen["answer"])


def fixed_answers() -> list[str]:
    """All answers that are not out of the corpus."""
    return [PHRASES["off_topic"]["answer"], *(talk["answer"] for talk in PHRASES["small_talk"])]


def answer(entry: Entry) -> str:
    """The first paragraphs that announce no code, as sentences: a capital at the start, a full stop at the end."""
    parts = [paragraph for paragraph in entry.paragraphs if not paragraph.endswith(":")] or list(entry.paragraphs)
    size, length = 1, len(parts[0])
    while size < len(parts) and length + len(parts[size]) < MAX_ANSWER:
        length += len(parts[size])
        size += 1
    text = _cut(flow(parts[:size])).rstrip(" :;,")
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?)\"'" else ".")


def _subject(entry: Entry) -> Subject:
    names: tuple[str, ...] = (entry.subject,)
    style: str = entry.kind
    if entry.kind == "topic":
        names = _topic_names(entry.subject)
        style = "statement" if entry.subject in pydoc.Helper.keywords else "topic"
    return Subject(names, PHRASES["questions"][style], answer(entry), FAMILIAR if _is_familiar(entry) else 1)


def _topic_names(topic: str) -> tuple[str, ...]:
    """The names under which help() shows a topic: 'for', or 'formatting' for 'formatstrings'."""
    if topic in pydoc.Helper.keywords:
        return (topic,)
    targets = {label: target if isinstance(target, str) else target[0] for label, target in pydoc.Helper.topics.items()}
    labels = {label.lower() for label, target in targets.items() if target == topic}
    return tuple(sorted(labels | {topic.removeprefix("bltin-").replace("-", " ")}))


def _is_public(entry: Entry) -> bool:
    return bool(entry.subject) and not any(part.startswith("_") for part in entry.subject.split("."))


def _is_familiar(entry: Entry) -> bool:
    """Topics, public modules, and what needs no import: built-in functions and the methods of built-in types."""
    is_builtin = hasattr(builtins, entry.subject.partition(".")[0])
    return entry.kind == "topic" or is_builtin or (entry.kind == "module" and "." not in entry.subject)


def _cut(text: str) -> str:
    """Whole sentences, up to about the longest answer."""
    if len(text) <= MAX_ANSWER * 1.5:
        return text
    end = text.rfind(". ", 0, MAX_ANSWER)
    return text[: end + 1] if end > 0 else text


def _careless(question: str, draw: random.Random) -> str:
    """As people type: sometimes without the capital, sometimes without the last mark."""
    if draw.random() < 0.15:
        question = question[0].lower() + question[1:]
    return question.rstrip("?.") if draw.random() < 0.15 else question


def _system(draw: random.Random) -> Message:
    return {"role": "system", "content": draw.choice(PHRASES["system"])}


def _turn(question: str, reply: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
