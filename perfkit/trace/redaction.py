"""Replaces hosts, users, paths, arguments and addresses by stable aliases, for others to see.

The alias of a text is the same wherever a run shows it, and in every output of the run: it is a
keyed hash, with a key from facts of the run that no output holds (process ids and clock readings to
the nanosecond), so that an alias cannot be looked up by hashing likely names.
"""

import hashlib
import hmac
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

_PATH = re.compile(
    r"""(?<!\w)(?:[A-Za-z]:\\|\\\\|file://|~?/)  # a drive, a share, a URL, the root or a home
        [^\s"'<>|,;()\[\]{}]*""",
    re.VERBOSE,
)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")
_HOME = re.compile(r"(?:/home/|/Users/|\\Users\\|/users/)([^/\\\s]+)")
_NUMBER = re.compile(r"[-+]?[\d.:,x]+(?:e[-+]?\d+)?", re.IGNORECASE)
_HOST_VARIABLE = re.compile(r"HOST|NODE|ADDR", re.IGNORECASE)
_USER_VARIABLE = re.compile(r"USER|ACCOUNT", re.IGNORECASE)
_LAUNCHER = re.compile(
    r"(?:python[\d.]*|torchrun|mpirun|mpiexec|srun|deepspeed|accelerate|launch|horovodrun|ray"
    r"|-m|-c|-u|-np|-n|--standalone|--(?:nproc[-_]per[-_]node|nnodes|node[-_]rank|max[-_]restarts)"
    r"(?:=\d+)?|torch\.distributed\.(?:run|launch))"
)
_NOT_USERS = frozenset({"root", "user", "home", "tmp"})
_MIN_WORD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Originals:
    """What must not be seen. `key`: bytes that make the aliases this run's own."""

    hosts: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    arguments: frozenset[str] = frozenset()
    key: bytes = b""


def originals(
    facts: Sequence[Mapping[str, object]], *, hosts: Iterable[str] = (), command: str = ""
) -> Originals:
    """Collect what must not be seen from the facts of ranks and nodes (docs/run-folder.md).

    `hosts` and `command` are what an analysis says of them, where there is no more.
    """
    machines, users, arguments, words = set(hosts), set(), set(split(command)), [command]
    for one in facts:
        machines |= {str(one.get(key) or "") for key in ("hostname", "node", "parent_node")}
        machines.add(str(one.get("boot_id") or one.get("clock_domain") or ""))
        environment = one.get("environment")
        for name, value in environment.items() if isinstance(environment, dict) else ():
            if _HOST_VARIABLE.search(name):
                machines.add(str(value))
            elif _USER_VARIABLE.search(name):
                users.add(str(value))
        for name in ("command", "argv"):
            said = one.get(name)
            arguments |= {str(part) for part in said} if isinstance(said, list) else set()
        words += [str(one.get(key) or "") for key in ("cwd", "script", "command_line")]
    users |= {name for text in [*words, *arguments] for name in _HOME.findall(text)}
    clocks = [f"{one['pid']} {one.get('clock')}" for one in facts if "pid" in one]
    secret = "\n".join(sorted(clocks) or [*sorted(machines), command])
    return Originals(
        hosts=frozenset(name for name in machines if name and not _NUMBER.fullmatch(name)),
        users=frozenset(users - _NOT_USERS - {""}),
        arguments=frozenset(a for a in arguments if _is_own(a)),
        key=hashlib.sha256(secret.encode()).digest(),
    )


def split(command: str) -> list[str]:
    """Return the words of a command line as a shell would, or by blanks where it is none."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _is_own(argument: str) -> bool:
    """Whether an argument is the user's, not the launcher's and not just a number."""
    return bool(argument) and not (_LAUNCHER.fullmatch(argument) or _NUMBER.fullmatch(argument))


class Redaction:
    """Replaces the originals of a run by aliases; without redaction texts stay as they are."""

    def __init__(self, known: Originals, *, hidden: bool) -> None:
        self._hidden = hidden
        self._key = known.key
        self._aliases = {word: self._alias("host", word) for word in known.hosts}
        self._aliases |= {word: self._alias("user", word) for word in known.users}
        self._arguments = {
            part: self._alias("arg", part) for a in known.arguments for part in _parts_of(a)
        }
        spelled = {w: a for w, a in self._arguments.items() if not w.isalpha()}
        self._words = _any_of(self._aliases)
        self._spelled = _any_of(spelled)
        self._said = _any_of(self._arguments)
        self.text = lru_cache(maxsize=1 << 16)(self._text)

    def host(self, name: str) -> str:
        """Return a host as it may be shown."""
        return self._alias("host", name) if self._hidden and name else name

    def command(self, line: str) -> str:
        """Return a command line: its launcher as it is, an alias for each argument of the user's.

        Numbers stay where they are the launcher's, not where they are the user's.
        """
        if not self._hidden:
            return line
        shown, own = [], False
        for word in split(line):
            program = word.rpartition("/")[2]
            own = own or not (_LAUNCHER.fullmatch(program) or _NUMBER.fullmatch(program))
            shown.append(self._argument(word) if own else program)
        return " ".join(shown)

    def message(self, text: str) -> str:
        """Return a text that may quote the user's arguments in any spelling."""
        if not self._hidden:
            return text
        return self._said.sub(lambda found: self._arguments[found[0]], self._text(text))

    def path(self, text: str) -> str:
        """Return a path, absolute or not, as it may be shown."""
        return self._alias("path", text) + PurePosixPath(text).suffix if self._hidden else text

    def _argument(self, word: str) -> str:
        return self._arguments.get(word) or self._alias("arg", word)

    def _alias(self, kind: str, word: str) -> str:
        digest = hmac.new(self._key, f"{kind}\0{word}".encode(), hashlib.sha256).hexdigest()
        return f"{kind}-{digest[:8]}"

    def _text(self, text: str) -> str:
        """Return a name as it may be shown: an operator, a range, a file."""
        if not self._hidden:
            return text
        text = _PATH.sub(lambda found: self._of_path(found[0]), text)
        text = _MAIL.sub(lambda found: self._alias("mail", found[0]), text)
        text = _ADDRESS.sub(lambda found: self._alias("address", found[0]), text)
        text = self._words.sub(lambda found: self._aliases[found[0]], text)
        return self._spelled.sub(lambda found: self._arguments[found[0]], text)

    def _of_path(self, path: str) -> str:
        """Return the alias of a path; a lone slash, and </tag>, are no paths."""
        return self.path(path) if len(path) > 2 else path


def _parts_of(argument: str) -> set[str]:
    """Return an argument and what of it may be quoted alone: name and value, a path's last part."""
    name, _, value = argument.partition("=")
    parts = {argument, name, value, PurePosixPath(value or name).name}
    return {part for part in parts if len(part) >= _MIN_WORD and _is_own(part)}


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of the words where it stands alone, the longest first."""
    found = sorted(map(re.escape, words), key=lambda word: (-len(word), word))
    return re.compile(rf"(?<![\w])(?:{'|'.join(found)})(?![\w])" if found else r"(?!)")
