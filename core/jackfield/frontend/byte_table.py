"""The bytes that each token of a byte-level vocabulary stands for."""

from __future__ import annotations

from collections.abc import Callable


def _alphabet() -> dict[str, int]:
    """The characters in which byte-level vocabularies spell bytes: printable ones themselves, others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(printable)]
    letters = {chr(byte): byte for byte in printable}
    letters.update({chr(256 + i): byte for i, byte in enumerate(rest)})
    return letters


_ALPHABET = _alphabet()


class ByteTable(dict[int, bytes]):
    """Token id to bytes, filled as tokens are met; ids in `skipped` and unknown ids stand for nothing."""

    def __init__(self, spelling: Callable[[int], str | None], skipped: frozenset[int]) -> None:
        super().__init__()
        self._spelling = spelling
        self._skipped = skipped

    def __missing__(self, token: int) -> bytes:
        spelling = None if token in self._skipped else self._spelling(token)
        self[token] = found = b"" if spelling is None else spelled_bytes(spelling)
        return found


def spelled_bytes(spelling: str) -> bytes:
    """Bytes of a token's spelling; a spelling outside the byte alphabet (an added token) is plain text."""
    try:
        return bytes(map(_ALPHABET.__getitem__, spelling))
    except KeyError:
        return spelling.encode()
