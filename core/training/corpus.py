"""The corpus: documents of prose about Python, each paragraph once, split into training and held-out documents."""

import random
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from prose import flow, words

RUN = 10  # so many words in a row, found in both parts, make a held-out paragraph a copy

Kind = Literal["module", "class", "function", "topic", "note"]


class Entry(NamedTuple):
    """What is said about one subject: a module, a class, a function, a topic of help(); a note has no subject."""

    subject: str
    kind: Kind
    paragraphs: tuple[str, ...]

    def text(self) -> str:
        return flow((self.subject, *self.paragraphs) if self.subject else self.paragraphs)


class Document(NamedTuple):
    """The unit of the split: a source file, an extension module, a topic of help(), or a text file."""

    name: str
    entries: tuple[Entry, ...]

    def text(self) -> str:
        return "\n\n".join(entry.text() for entry in self.entries)


class Corpus(NamedTuple):
    train: tuple[Document, ...]
    held_out: tuple[Document, ...]


def split(documents: Iterable[Document], seed: int, held_out_share: float = 0.04) -> Corpus:
    """Split by document. Held-out paragraphs that share ten words in a row with the training text are dropped."""
    unique = list(without_repeats(documents))
    random.Random(seed).shuffle(unique)
    size = round(held_out_share * len(unique))
    train, candidates = unique[size:], unique[:size]
    known = {run for document in train for paragraph in paragraphs(document) for run in runs(paragraph)}
    new = {
        paragraph for document in candidates for paragraph in paragraphs(document) if known.isdisjoint(runs(paragraph))
    }
    held_out = (_keep(document, new) for document in candidates)
    return Corpus(tuple(train), tuple(document for document in held_out if document.entries))


def without_repeats(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents without the paragraphs that an earlier document has: licences, inherited and copied docstrings."""
    seen: set[str] = set()
    for document in documents:
        kept = _keep(document, {p for p in paragraphs(document) if _key(p) not in seen})
        if kept.entries:
            yield kept
        seen.update(_key(paragraph) for paragraph in paragraphs(kept))


def vocabulary(documents: Iterable[Document]) -> set[str]:
    """The words of the documents, in lower case."""
    return {word for document in documents for word in words(document.text())}


def paragraphs(document: Document) -> Iterator[str]:
    return (paragraph for entry in document.entries for paragraph in entry.paragraphs)


def runs(paragraph: str) -> set[str]:
    """Every run of ten words; a shorter paragraph is one run."""
    found = words(paragraph)
    return {" ".join(found[start : start + RUN]) for start in range(max(1, len(found) - RUN + 1))}


def _keep(document: Document, wanted: set[str]) -> Document:
    """The document with the wanted paragraphs, each at its first place only."""
    entries = []
    for entry in document.entries:
        kept = tuple(paragraph for paragraph in entry.paragraphs if paragraph in wanted)
        wanted = wanted.difference(kept)
        if kept:
            entries.append(entry._replace(paragraphs=kept))
    return Document(document.name, tuple(entries))


def _key(paragraph: str) -> str:
    return " ".join(words(paragraph))
