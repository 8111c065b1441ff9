"""Where the bytes of a trace come from: plain or gzip files, read in chunks, whole or torn."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isal import igzip_lib, isal_zlib

from perfkit.errors import InputError

CHUNK_BYTES = 4 << 20
GZIP_MAGIC = b"\x1f\x8b"
GZIP_WINDOW_BITS = 31

BOMB_RATIO = 250
BOMB_BYTES = 2 << 30
"""Real traces expand 10 to 40 times; a file that expands further than BOMB_RATIO, and beyond
BOMB_BYTES, is not one."""


@dataclass(slots=True)
class Source:
    """One file's decompressed bytes; `torn` and `garbage` are true once reading found them so."""

    path: Path
    torn: bool = False  # the gzip stream ends early or is damaged: the prefix was delivered
    garbage: bool = False  # bytes follow the end of the gzip stream

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Yield decompressed bytes, at most about `size` at a time.

        Raises InputError if the file cannot be read or expands absurdly.
        """
        try:
            with self.path.open("rb") as file:
                first = file.read(size)
                if first.startswith(GZIP_MAGIC):
                    yield from self._inflate(_rest(first, file, size), size)
                else:
                    yield from _rest(first, file, size)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be read: {error.strerror or error}",
                hint="check that the file exists and that you may read it",
            ) from error

    def _inflate(self, packed: Iterator[bytes], size: int) -> Iterator[bytes]:
        stream = isal_zlib.decompressobj(wbits=GZIP_WINDOW_BITS)
        taken = given = 0
        for data in packed:
            taken += len(data)
            pending = data
            while pending:
                if stream.eof:  # a second member, or bytes that do not belong here
                    if not pending.startswith(GZIP_MAGIC):
                        self.garbage = True
                        return
                    stream = isal_zlib.decompressobj(wbits=GZIP_WINDOW_BITS)
                try:
                    out = stream.decompress(pending, size)
                except igzip_lib.IsalError:  # type: ignore[misc]  # the stub calls it a function
                    self.torn = True
                    return
                pending = stream.unused_data if stream.eof else stream.unconsumed_tail
                given += len(out)
                self._refuse_bomb(taken, given)
                if out:
                    yield out
        self.torn = self.torn or not stream.eof

    def _refuse_bomb(self, taken: int, given: int) -> None:
        if given > BOMB_BYTES and given > BOMB_RATIO * taken:
            raise InputError(
                f"{self.path}: expands more than {BOMB_RATIO} times, beyond {BOMB_BYTES >> 30} GiB",
                hint="no profiler writes such a file; if it is real, give it unpacked",
            )


def _rest(first: bytes, file: BinaryIO, size: int) -> Iterator[bytes]:
    data = first
    while data:
        yield data
        data = file.read(size)
