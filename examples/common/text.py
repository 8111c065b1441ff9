"""A text to learn from, made up on the spot: the same for the same seed, on every machine."""

import random

import torch
from torch import Tensor
from torch.utils.data import Dataset

WHO = ("the cat", "a sailor", "the old king", "my neighbour", "nobody", "the engineer")
DOES = ("builds", "finds", "paints", "forgets", "measures", "sells", "repairs")
WHAT = ("a boat", "the long bridge", "two clocks", "a quiet garden", "the map", "every engine")
WHEN = ("at dawn", "in winter", "before the storm", "twice a day", "without a word")

ALPHABET = "\n ,.abcdefghijklmnopqrstuvwxyz"


def make_text(characters: int, seed: int) -> str:
    """Return sentences of a tiny grammar: enough order that the loss falls within 40 steps."""
    choose = random.Random(seed).choice
    sentences: list[str] = []
    length = 0
    while length < characters:
        sentence = f"{choose(WHO)} {choose(DOES)} {choose(WHAT)} {choose(WHEN)}{choose('.,')}\n"
        sentences.append(sentence)
        length += len(sentence)
    return "".join(sentences)[:characters]


class TextWindows(Dataset[tuple[Tensor, Tensor]]):
    """Every window of `length` characters, with the same window one character later as target."""

    def __init__(self, text: str, length: int) -> None:
        number = {character: i for i, character in enumerate(ALPHABET)}
        self.tokens = torch.tensor([number[character] for character in text])
        self.length = length

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.tokens) - self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return input and target, each of shape (length,) and type int64."""
        window = self.tokens[index : index + self.length + 1]
        return window[:-1], window[1:]
