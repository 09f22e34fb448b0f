"""Read a YAML file so that each value can be found again: its line, and keys that stand twice."""

from __future__ import annotations

import errno
import os
import re
import stat
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from carp.core.errors import ConfigError

if TYPE_CHECKING:
    from typing import TypeAlias

    # PyYAML's stubs leave out `id`, which says what kind of node it is.
    Node: TypeAlias = Any

_MAX_BYTES: Final = 4 << 20
_MAX_NODES: Final = 200_000
"""Values with aliases expanded: ten times what the largest file needs, little enough to survive."""
_MAX_DEPTH: Final = 20
_MAX_SHOWN: Final = 120
"""Characters of a value in an error; the rest helps nobody."""


_QUOTED: Final = re.compile(r"""(?<![^\s(])(['"])(?!<[a-z ]+>)(?:\\.|(?!\1|\\).){2,}\1""")
"""What a parser quotes of a file; names of its own such as '<block end>' and single characters stay."""


class FileError(ConfigError):
    """Something in a file is wrong: ``file``, ``path`` of the setting ("" for the whole file), ``line``.

    ``line`` is 0 where there is none. The text names the file where ``named`` says that there are several.
    """

    def __init__(self, error: ConfigError, file: str, line: int, *, named: bool = False) -> None:
        """Place an error; a mapping or a list is never shown, because a password may stand in it."""
        self.file, self.path, self.line = file, error.field, line
        value, problem = error.value, error.problem
        if isinstance(value, dict | list | set):
            problem = f"a {'list' if isinstance(value, list) else 'mapping'} {problem}"
            value = None
        elif isinstance(value, str) and len(value) > _MAX_SHOWN:
            value = value[:_MAX_SHOWN] + "…"
        shown = ": ".join(part for part in (file if named or not self.path else "", self.path) if part)
        super().__init__(f"{shown} (line {line})" if line else shown, value, problem)


class UnreadableError(FileError):
    """A file, or a password file that it names, is there and cannot be read: that says nothing of it."""


_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""What a wrong path leads to, whenever it is tried; all else may be the disk's fault, or pass."""


def is_refused(error: OSError) -> bool:
    """Whether an error is one of reading, not of a path that is wrong."""
    return error.errno not in _NOT_THERE


def cannot_read(error: OSError, path: str) -> FileError:
    """Return the error for a file or folder that could not be read."""
    kind = UnreadableError if is_refused(error) else FileError
    return kind(ConfigError("", None, f"cannot be read: {error.strerror}"), path, 0)


class Document:
    """The data of one file, and where each value stands.

    ``errors`` are keys that stand twice; ``exposed`` is the file's mode where others can read a
    password in it, else None.
    """

    def __init__(self, file: str, data: object, root: Node | None, errors: list[ConfigError]) -> None:
        """``root`` is the tree that ``data`` was made from; without it nothing has a line."""
        self.file = file
        self.data = data
        self.errors = errors
        self.exposed: int | None = None
        self._root = root

    def line(self, path: str) -> int:
        """Return the line of a path such as ``vhosts[2].advskew``, or of the nearest thing around it."""
        node, rest = self._root, path
        found = node.start_mark.line + 1 if node else 0
        while node and rest:
            step = _step(node, rest)
            if step is None:
                break
            found, node, rest = step
        return found


def _step(node: Node, path: str) -> tuple[int, Node, str] | None:
    """Return the line and the node of the first part of a path, and the rest of the path."""
    if node.id == "sequence":
        match = re.match(r"\[(\d+)\]\.?", path)
        if match and int(match[1]) < len(node.value):
            item = node.value[int(match[1])]
            return item.start_mark.line + 1, item, path[match.end() :]
    if node.id == "mapping":
        # Backwards: of two equal keys the last counts. Keys may hold dots, so the longest that fits wins.
        fits = [(k, v) for k, v in reversed(node.value) if k.id == "scalar" and _begins(path, k.value)]
        if fits:
            key, value = max(fits, key=lambda pair: len(pair[0].value))
            return key.start_mark.line + 1, value, path[len(key.value) :].removeprefix(".")
    return None


def _begins(path: str, key: str) -> bool:
    return path.startswith(key) and path[len(key) : len(key) + 1] in {"", ".", "["}


def read(path: str) -> Document:
    """Return what a file holds; an empty one holds None. Raises FileError when there is no reading it."""
    import yaml  # noqa: PLC0415 (costs 3 MiB; only who reads a file pays)

    text, mode = _content(path)
    line = 0
    try:
        loader = _loader()(text)
        try:
            root = loader.get_single_node()
            errors, secret = _survey(root) if root else ([], False)
            document = Document(path, loader.construct_document(root) if root else None, root, errors)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        # Never str(error): the pure Python parser quotes the line, and a password may stand there.
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        problem = _unquoted(f"{error.problem}{f' ({error.context})' if error.context else ''}")
    except (AttributeError, LookupError):
        problem = "a value does not fit its tag"  # `!!bool x`, `!!timestamp x`
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits
        problem = _unquoted(" ".join(str(error).split()))
    else:
        document.exposed = mode if secret and mode & (stat.S_IRGRP | stat.S_IROTH) else None
        return document
    raise FileError(ConfigError("", None, f"is no YAML: {problem}"), path, line) from None


def _unquoted(problem: str) -> str:
    """Return a parser's words without what they quote: `password: !x` is a tag, `password: *x` an alias."""
    return _QUOTED.sub("…", problem)


def _content(path: str) -> tuple[bytes, int]:
    """Return a file's bytes and the bits of its mode. Raises FileError."""
    try:
        with Path(path).open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise cannot_read(error, path) from None
    if len(text) > _MAX_BYTES:
        raise FileError(ConfigError("", None, f"has more than {_MAX_BYTES >> 20} MiB"), path, 0)
    return text, mode


def _survey(root: Node) -> tuple[list[ConfigError], bool]:
    """Return an error for each key that stands twice (YAML takes the last), and whether there is a password.

    Raises ValueError for what only a mistake or an attack nests so deeply, or multiplies so by aliases.
    """
    errors: list[ConfigError] = []
    secret, count = False, 0
    stack: list[tuple[str, Node, int]] = [("", root, 0)]
    while stack:
        path, node, depth = stack.pop()
        count += 1
        if count > _MAX_NODES or depth > _MAX_DEPTH:
            msg = f"more than {_MAX_NODES} values" if count > _MAX_NODES else f"more than {_MAX_DEPTH} levels"
            raise ValueError(msg)
        if node.id == "sequence":
            stack.extend((f"{path}[{i}]", item, depth + 1) for i, item in enumerate(node.value))
        if node.id != "mapping":
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            name = str(key.value) if key.id == "scalar" else "?"
            field = f"{path}.{name}" if path else name
            if name in lines:
                problem = f"stands twice in this mapping, first in line {lines[name]}"
                errors.append(ConfigError(field, None, problem))
            lines.setdefault(name, key.start_mark.line + 1)
            secret = secret or name == "password"
            stack.append((field, value, depth + 1))
    return errors, secret


@cache
def _loader() -> type[Any]:
    """Return a safe loader, in C where there is one, that reads plain scalars by YAML 1.2's core schema.

    YAML 1.1 would make `fencing: Off` false, the IPv6 address 2001:10:20:30:40:50:1:2 a number to the
    base 60, and 010 eight. What YAML 1.2 and 1.1 read differently (010) stays a text here.
    """
    import yaml  # noqa: PLC0415 (see read)

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own attribute)

    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?", "-+.0123456789"),
        ("merge", r"<<", "<"),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))
    return Loader
