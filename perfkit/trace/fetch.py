"""Brings files from URLs (s3, gs, http, ...) here, by fsspec and the package of each scheme."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from perfkit.errors import InputError
from perfkit.trace.kept import READ_SUFFIXES, innermost, kept, place_in

MAX_BYTES = 256 << 30
MAX_FILES = 100_000
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_IDENTITY = ("size", "ETag", "etag", "mtime", "LastModified", "last_modified", "updated")
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
}


def is_url(text: str) -> bool:
    """Whether an argument names something that is not a local path."""
    return _URL.match(text) is not None


def fetched(url: str, cache: Path) -> Path:
    """Return a local copy of what a URL names: a file, or a folder of the files that it matches.

    Raises InputError if nothing is there, it cannot be fetched, or it is too large.
    """
    with _explained(url):
        import fsspec

        system, root = fsspec.core.url_to_fs(url)
        files = _files(system, root)
    if not files:
        raise InputError(f"{url}: no such file, or no traces in it", hint="check the address")
    size = sum(int(facts.get("size") or 0) for facts in files.values())
    if size > MAX_BYTES or len(files) > MAX_FILES:
        raise InputError(
            f"{url}: {len(files):,} files, {size / 1e9:.0f} GB, are too much to fetch",
            hint="name fewer, or copy them here yourself",
        )
    entry = kept(cache, _key(url, files), partial(_get, system, url, files))
    found = innermost(entry)
    inside = list(found.iterdir())
    return inside[0] if len(files) == 1 and len(inside) == 1 else found


def _files(system: Any, root: str) -> dict[str, Mapping[str, Any]]:
    """Return the files at `root`, a file, pattern or folder, with what is known of each."""
    if any(mark in root for mark in "*?["):
        matches = system.glob(root, detail=True)
        return {name: facts for name, facts in matches.items() if facts.get("type") == "file"}
    if not system.isdir(root):
        return {root: system.info(root)}
    found = system.find(root, detail=True)
    return {name: facts for name, facts in found.items() if name.endswith(READ_SUFFIXES)}


def _key(url: str, files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what identifies the content of the files: addresses, sizes, versions or times."""
    parts = [url]
    for name, facts in sorted(files.items()):
        parts += [name, *(str(facts.get(key)) for key in _IDENTITY)]
    return "url-" + hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _get(system: Any, url: str, files: Mapping[str, Any], folder: Path) -> None:
    names = sorted(files)
    above = names[0].rpartition("/")[0]
    while not all(name.startswith(f"{above}/") for name in names):
        above = above.rpartition("/")[0]
    target = folder / (above.rpartition("/")[2].replace(":", "") or "traces")
    for name in names:
        with _explained(url):
            place = place_in(target, name.removeprefix(above).lstrip("/"))
            place.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(name, str(place))


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn any failure into one line.

    What stands behind fsspec is not ours, and raises whatever networks, accounts and services have
    to say, in classes of its own: nothing narrower than Exception holds them.
    """
    try:
        yield
    except ImportError as error:
        package = _PACKAGES.get(url.partition("://")[0].lower(), "")
        hint = f"pip install {package}" if package else str(error).splitlines()[0]
        raise InputError(f"{url}: needs a package that is not installed", hint=hint) from error
    except FileNotFoundError as error:
        raise InputError(f"{url}: no such file or folder", hint="check the address") from error
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise InputError(
            f"{url}: cannot be fetched: {reason}", hint="check the address and your credentials"
        ) from error
