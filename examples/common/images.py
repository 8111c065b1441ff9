"""A small set of PNG images, drawn on first use, and a data set that decodes them from disk.

The PNG codec is a dozen lines of zlib, so that the example needs nothing beyond torch.
"""

import math
import os
import random
import struct
import tempfile
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.data import Dataset

CLASSES = ("disk", "square", "stripes", "rings")
SIZE = 160
SIGNATURE = b"\x89PNG\r\n\x1a\n"
FILTER_UP = 2


class ImageFolder(Dataset[tuple[Tensor, Tensor]]):
    """Images of a folder by name `CLASS-NUMBER.png`, decoded, resized and normalised on demand."""

    def __init__(self, folder: Path, size: int) -> None:
        self.paths = sorted(folder.glob("*.png"))
        self.size = size

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image of shape (3, size, size) around zero, and its class."""
        path = self.paths[index]
        pixels = decode_png(path.read_bytes()).permute(2, 0, 1).float() / 255
        resized = F.interpolate(
            pixels.unsqueeze(0), self.size, mode="bilinear", antialias=True
        ).squeeze(0)
        label = CLASSES.index(path.stem.split("-")[0])
        return (resized - 0.5) / 0.25, torch.tensor(label)


def make_images(folder: Path, count: int, seed: int) -> None:
    """Draw `count` images into `folder` unless it is there already."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Drawn aside, then renamed: a folder with this name is always complete.
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}-partial-"))
    generator = torch.Generator().manual_seed(seed)
    choice = random.Random(seed)
    for number in range(count):
        name = CLASSES[number % len(CLASSES)]
        picture = draw(name, choice, generator)
        (partial / f"{name}-{number:05d}.png").write_bytes(encode_png(picture))
    os.replace(partial, folder)


def draw(name: str, choice: random.Random, generator: torch.Generator) -> Tensor:
    """Return a noisy picture of the class, uint8 of shape (SIZE, SIZE, 3)."""
    axis = torch.arange(SIZE, dtype=torch.float32)
    down = axis.view(-1, 1) - choice.uniform(0.35, 0.65) * SIZE
    across = axis.view(1, -1) - choice.uniform(0.35, 0.65) * SIZE
    radius = choice.uniform(0.15, 0.3) * SIZE
    distance = (down**2 + across**2).sqrt()
    masks = {
        "disk": distance < radius,
        "square": (down.abs() < radius) & (across.abs() < radius),
        "stripes": torch.sin((down + across) * math.pi / (0.3 * radius)) > 0,
        "rings": torch.sin(distance * math.pi / (0.3 * radius)) > 0,
    }
    paper, ink = (torch.tensor([choice.uniform(32, 224) for _ in range(3)]) for _ in range(2))
    picture = torch.where(masks[name].unsqueeze(-1), ink, paper)
    noise = torch.randn(picture.shape, generator=generator) * 12
    return (picture + noise).clamp(0, 255).to(torch.uint8)


def encode_png(pixels: Tensor) -> bytes:
    """Return uint8 pixels of shape (height, width, 3) as a PNG file."""
    height, width, _ = pixels.shape
    rows = pixels.reshape(height, width * 3)
    above = torch.cat([torch.zeros_like(rows[:1]), rows[:-1]])
    filters = torch.full((height, 1), FILTER_UP, dtype=torch.uint8)
    scanlines = torch.cat([filters, rows - above], dim=1)  # uint8 wraps round, as PNG asks
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(scanlines.flatten().tolist()))
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def decode_png(file: bytes) -> Tensor:
    """Return the pixels of a file that `encode_png` made: uint8 of shape (height, width, 3)."""
    if not file.startswith(SIGNATURE):
        raise ValueError("not a PNG file")
    chunks: dict[bytes, bytes] = {}
    at = len(SIGNATURE)
    while at < len(file):
        length, kind = struct.unpack_from(">I4s", file, at)
        chunks[kind] = chunks.get(kind, b"") + file[at + 8 : at + 8 + length]
        at += length + 12
    width, height = struct.unpack_from(">II", chunks[b"IHDR"])
    scanlines = torch.frombuffer(
        bytearray(zlib.decompress(chunks[b"IDAT"])), dtype=torch.uint8
    ).view(height, 1 + width * 3)
    if not bool((scanlines[:, 0] == FILTER_UP).all()):
        raise ValueError("this PNG uses a filter that the example's decoder does not know")
    rows = scanlines[:, 1:].cumsum(dim=0, dtype=torch.uint8)
    return rows.view(height, width, 3)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
