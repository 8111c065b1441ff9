"""Takes hosts, users and paths out of what is exported for others to see."""

import re
from collections.abc import Iterable
from functools import lru_cache

_PATH = re.compile(
    r"""(?:[A-Za-z]:\\|\\\\|file://|~?/)  # a drive, a share, a URL, the root or a home
        [^\s"'<>|,;()\[\]{}]*""",
    re.VERBOSE,
)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")


class Redaction:
    """Replaces each host by a number of its own, and paths, mail and IP addresses by their kind.

    Without redaction (`hidden` False) texts stay as they are.
    """

    def __init__(self, hosts: Iterable[str], *, hidden: bool) -> None:
        self._hidden = hidden
        distinct = sorted({host for host in hosts if host})
        self._hosts = {host: f"node{number}" for number, host in enumerate(distinct)}
        longest_first = sorted(map(re.escape, distinct), key=len, reverse=True)
        self._named = re.compile("|".join(longest_first) or r"(?!)")
        self.text = lru_cache(maxsize=1 << 16)(self._text)

    def host(self, name: str) -> str:
        """Return a host as it may be shown."""
        return self._hosts.get(name, "") if self._hidden else name

    def _text(self, text: str) -> str:
        """Return a name as it may be shown: an operator, a range, a file."""
        if not self._hidden:
            return text
        text = _PATH.sub(_last_part, text)
        text = _ADDRESS.sub("<address>", _MAIL.sub("<mail>", text))
        return self._named.sub(lambda found: self._hosts[found[0]], text)


def _last_part(found: re.Match[str]) -> str:
    """Keep the name of the file, which says what runs; a lone slash is no path."""
    path = found[0]
    parts = [part for part in re.split(r"[\\/]", path) if part]
    if len(parts) < 2:
        return path if len(path) < 2 else "<path>"
    return f"<path>/{parts[-1]}"
