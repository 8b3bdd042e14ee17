"""Text as tokens, one for each character: of a file, or of the English prose that every Python carries. And names.

The prose is `pydoc_data.topics`, what `help("if")` shows: about 465,000 characters, not quite the same in every Python.
Where no names are given its words are the names.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from experiments.core.options import BadOption, Options

END = "\n"  # before and after each name


class Text(NamedTuple):
    """A text in two parts, as tokens (length,) of int64: token i is the i-th character of the vocabulary."""

    vocabulary: str
    train: Tensor  # the first nine tenths
    validation: Tensor

    def encode(self, text: str) -> Tensor:
        """The tokens of a text, whose characters are all of the vocabulary."""
        return encode(text, self.vocabulary).to(self.train.device)

    def decode(self, tokens: Tensor) -> str:
        """The text of tokens (length,)."""
        return "".join(self.vocabulary[token] for token in tokens.tolist())


class Names(NamedTuple):
    """Lists of names; token i is the i-th character of the vocabulary, the first of which stands before and after a name."""

    vocabulary: str
    every: list[str]

    def parts(self) -> list[list[str]]:
        """Training, validation and test part: 80%, 10% and 10%, shuffled as in Karpathy's "makemore" (2022)."""
        names = list(self.every)
        random.Random(42).shuffle(names)
        borders = [0, int(0.8 * len(names)), int(0.9 * len(names)), len(names)]
        return [names[start:end] for start, end in pairwise(borders)]

    def contexts(self, names: list[str], length: int) -> tuple[Tensor, Tensor]:
        """Every character of the names with the `length` ones before it: (contexts (N, length), what follows (N,))."""
        tokens = (encode(END * length + name + END, self.vocabulary) for name in names)
        windows = torch.cat([own.unfold(0, length + 1, 1) for own in tokens])
        return windows[:, :-1], windows[:, -1]


@dataclass(frozen=True, kw_only=True)
class Reading(Options):
    """The options of every experiment on text."""

    text: Path | None = None
    """A file of text in UTF-8; by default the prose of Python's own help, of about 465,000 characters."""

    def read(self) -> Text:
        """The text as tokens on the device. Raises BadOption for a file that is no text, or too short."""
        content = read(self.text, "text") if self.text else prose()
        if len(content) < 10:
            raise BadOption(f"text: got {len(content)} characters, needs at least 10")
        vocabulary = "".join(sorted({*content}))
        train, validation = encode(content, vocabulary).to(self.device).tensor_split([9 * len(content) // 10])
        return Text(vocabulary, train, validation)


@dataclass(frozen=True, kw_only=True)
class Naming(Options):
    """The options of every experiment on names."""

    names: Path | None = None
    """A file of names in UTF-8, one on each line; by default the words of Python's own help."""

    def read(self) -> Names:
        """The names in the order of the file. Raises BadOption for a file that is no text, or too short."""
        lines = read(self.names, "names").splitlines() if self.names else words()
        names = [line.strip() for line in lines if line.strip()]
        if len(names) < 10:
            raise BadOption(f"names: got {len(names)}, needs at least 10")
        return Names(END + "".join(sorted({*"".join(names)})), names)


def read(path: Path, option: str) -> str:
    """The content of a file that an option names."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadOption(f"{option}: got {path}, needs a text in UTF-8") from None


def prose() -> str:
    """Python's help on its own language, topic after topic."""
    return "\n".join(topics.values())


def words() -> list[str]:
    """The different words of the prose with two letters or more, in the order of the alphabet."""
    return sorted(set(re.findall("[a-z]{2,}", prose().lower())))


def encode(text: str, vocabulary: str) -> Tensor:
    """Each character as its place in the vocabulary."""
    places = {character: place for place, character in enumerate(vocabulary)}
    return torch.tensor([places[character] for character in text])


def batches(tokens: Tensor, length: int, batch_size: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Without end, windows drawn anywhere: (x, y) of shape (batch_size, length), y one character further on than x."""
    offsets = _offsets(tokens, length)
    while True:
        starts = torch.randint(len(tokens) - length, (batch_size, 1), generator=generator).to(tokens.device)
        yield tokens[starts + offsets], tokens[starts + offsets + 1]


def passages(tokens: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """All of a text but what is left at its end, in windows side by side: (x, y) of shape (N, length), as in `batches`."""
    offsets = _offsets(tokens, length)
    starts = torch.arange(0, len(tokens) - length, length, device=tokens.device)[:, None]
    return tokens[starts + offsets], tokens[starts + offsets + 1]


def _offsets(tokens: Tensor, length: int) -> Tensor:
    """The places of a window, from its start."""
    if len(tokens) <= length:
        raise BadOption(f"text: got a part of {len(tokens)} characters, needs more than {length}")
    return torch.arange(length, device=tokens.device)
