"""Unpacks tar and zip archives of traces: regular files only, within limits, never out of place."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from perfkit.errors import InputError
from perfkit.trace.cache import key_of
from perfkit.trace.kept import READ_SUFFIXES, innermost, kept, place_in
from perfkit.trace.source import BOMB_BYTES, BOMB_RATIO

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ZIP_SUFFIXES = (".zip",)
ARCHIVE_SUFFIXES = TAR_SUFFIXES + ZIP_SUFFIXES
MAX_MEMBERS = 1_000_000
CHUNK_BYTES = 1 << 20

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # zipfile: encrypted
    NotImplementedError,  # zipfile: an unknown compression
)


@dataclass(slots=True)
class _Budget:
    """How much an archive has given; a bomb is refused as it is for gzip (see source)."""

    path: Path
    taken: int
    given: int = 0
    members: int = field(default=0)

    def member(self) -> None:
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise InputError(
                f"{self.path}: holds more than {MAX_MEMBERS:,} files", hint="unpack what is needed"
            )

    def take(self, count: int) -> None:
        self.given += count
        if self.given > BOMB_BYTES and self.given > BOMB_RATIO * self.taken:
            raise InputError(
                f"{self.path}: expands more than {BOMB_RATIO} times, beyond {BOMB_BYTES >> 30} GiB",
                hint="no archive of traces does; if it is real, unpack it yourself",
            )


def unpacked(archive: Path, cache: Path) -> Path:
    """Return a folder with the traces, or the run folder, that an archive holds.

    Raises InputError if the archive is damaged, too large, or names files outside itself.
    """
    key = key_of(archive)
    if not key:
        raise InputError(f"{archive}: cannot be read", hint="check that you may read it")
    return innermost(kept(cache, key, partial(_unpack, archive)))


def _unpack(archive: Path, folder: Path) -> None:
    name = archive.name
    for suffix in sorted(ARCHIVE_SUFFIXES, key=len, reverse=True):
        name = name.removesuffix(suffix)
    target = folder / (name or "traces")
    target.mkdir()
    budget = _Budget(archive, archive.stat().st_size)
    is_zip, is_empty = zipfile.is_zipfile(archive), True
    with _explained(archive):
        for member, content in (_zipped if is_zip else _tarred)(archive, budget):
            is_empty = False
            place = place_in(target, member)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                while data := content.read(CHUNK_BYTES):
                    budget.take(len(data))
                    file.write(data)
    if is_empty:
        raise InputError(
            f"{archive}: no run and no *.json, *.json.gz or *.sqlite in it",
            hint="pack a perfkit run folder, torch.profiler traces, or Nsight exports (.sqlite)",
        )


def _tarred(archive: Path, budget: _Budget) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            budget.member()
            budget.take(0 if _is_wanted(member.name) else member.size)
            place_in(Path(), member.name)  # refuse the archive, not only the file
            content = tar.extractfile(member) if member.isreg() else None
            if content is not None and _is_wanted(member.name):
                yield member.name, content


def _zipped(archive: Path, budget: _Budget) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            budget.member()
            place_in(Path(), member.filename)
            if not member.is_dir() and _is_wanted(member.filename):
                with packed.open(member) as content:
                    yield member.filename, content


def _is_wanted(name: str) -> bool:
    return name.endswith(READ_SUFFIXES)


@contextmanager
def _explained(archive: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InputError(
            f"{archive}: refused: the file {error}", hint="unpack it yourself if you trust it"
        ) from error
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{archive}: a damaged or unreadable archive: {reason}", hint="copy or pack it again"
        ) from error
