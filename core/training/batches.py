"""Batches of tokens without end: each epoch mixes the documents with newly phrased conversations."""

from collections.abc import Iterable, Iterator
from random import Random

import torch
from chat import conversations, subjects
from corpus import Document
from tokenizer import END_OF_TEXT
from torch import Tensor
from transformers import PreTrainedTokenizerFast

ROW_LENGTHS, ROW_WEIGHTS = (256, 512, 1024, 2048), (6, 3, 2, 1)  # mostly short rows, which are cheap


class Batches:
    """Ids as int64 [rows, length]: rows of one length from all over the epoch, always the same number of tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, documents: Iterable[Document], size: int) -> None:
        self.tokenizer, self.documents, self.size = tokenizer, tuple(documents), size
        self.subjects = subjects(self.documents)

    def draw(self, random: Random) -> Iterator[Tensor]:
        """Epoch after epoch."""
        while True:
            yield from self.epoch(random)

    def epoch(self, random: Random) -> list[Tensor]:
        """One pass: texts in random order, one after the other, cut into rows; what fills no batch is left out."""
        *stretches, _ = self.stream(random).split(max(ROW_LENGTHS))
        rows: dict[int, list[Tensor]] = {length: [] for length in ROW_LENGTHS}
        for stretch in stretches:
            length = random.choices(ROW_LENGTHS, ROW_WEIGHTS)[0]
            rows[length] += stretch.split(length)
        batches = []
        for length, pieces in rows.items():
            random.shuffle(pieces)
            size = self.size // length
            batches += [torch.stack(pieces[start : start + size]) for start in range(0, len(pieces) - size + 1, size)]
        random.shuffle(batches)
        return batches

    def stream(self, random: Random) -> Tensor:
        """All texts as ids [tokens]; each begins with the token that ends the one before."""
        texts = [document.text() for document in self.documents]
        talks = conversations(self.subjects, random)
        texts += [self.tokenizer.apply_chat_template(talk, tokenize=False) for talk in talks]
        random.shuffle(texts)
        encoded = self.tokenizer([END_OF_TEXT + text for text in texts], verbose=False)["input_ids"]
        return torch.tensor([token for ids in encoded for token in ids])
