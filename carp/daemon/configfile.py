"""Read carpd's configuration: a YAML file with `vhosts:` as a list, and the folder conf.d beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from carp.core.errors import ConfigError, ConfigErrors
from carp.core.reader import Reader
from carp.core.schema import parse_vhost, parse_vip
from carp.daemon.yamlfile import Document, FileError, UnreadableError, cannot_read, is_refused, read
from carp.passfile import read_password_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, TypeAlias

    from carp.core.auth import Address
    from carp.core.config import VhostConfig

    Claim: TypeAlias = tuple[str, object, object]
    """The field, the value and the scope of a thing that one vhost alone may have."""

FOLDER: Final = "conf.d"
"""Beside the file; its files ending in .yaml or .yml, hidden ones left out, in the order of their names."""


MAX_VHOSTS: Final = 510
"""Vhosts of one source (design.md section 3)."""
_STAND_IN: Final = {"name": "x", "vhid": 1, "interface": "x", "addresses": ["192.0.2.1"], "password": "x"}
"""A sound vhost, for reading one field of a wrong one."""


def too_many(count: int) -> ConfigError | None:
    """Return what is wrong with so many vhosts of one source; None where nothing is."""
    if count <= MAX_VHOSTS:
        return None
    return ConfigError("vhosts", count, f"are more than {MAX_VHOSTS} of one source")


class UnreadableErrors(ConfigErrors):
    """Nothing but files that could not be read: it may be right, and another attempt may succeed."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A vhost, what it claims, and where it stands: ``path`` is ``vhosts[2]``.

    One that is wrong by itself has no ``config``, and claims what could be read of it.
    """

    document: Document
    path: str
    config: VhostConfig | None
    claims: tuple[Claim, ...]

    @property
    def place(self) -> tuple[str, int]:
        """Its file and line."""
        return self.document.file, self.document.line(self.path)

    @property
    def title(self) -> str:
        """Its name, or its path where it has none."""
        return next((str(value) for field, value, _ in self.claims if field == "name"), self.path)


def folder(path: str) -> Path:
    """Return the folder whose files are merged with a configuration file."""
    return Path(path).parent / FOLDER


def watched(path: str) -> list[str]:
    """Return what a configuration changes with."""
    return [path, str(folder(path))]


def files(path: str) -> list[str]:
    """Return what a configuration consists of: the file, then those of its folder. Raises FileError."""
    beside = folder(path)
    try:
        found = sorted(beside.iterdir())
    except OSError as error:
        # Unknown is not empty, and so is a link to nowhere: the vhosts in there must not vanish.
        if not isinstance(error, FileNotFoundError) or os.path.lexists(beside):
            raise cannot_read(error, str(beside)) from None
        found = []
    fitting = [p for p in found if p.suffix in {".yaml", ".yml"} and not p.name.startswith(".")]
    return [path, *map(str, fitting)]


def load(path: str, *, named: bool = False) -> tuple[list[VhostConfig], list[str]]:
    """Return the vhosts of a configuration and what to warn about.

    Raises ConfigErrors with all that is wrong, UnreadableErrors where that is only that files, or password
    files, could not be read; each names its file where there are several, or always
    with ``named``. Reads files only, so a thread may call it: 200 vhosts take
    longer than an election should wait.
    """
    errors: list[FileError] = []
    documents: list[Document] = []
    names = [path]
    try:
        names = files(path)
    except FileError as error:
        errors.append(error)
    for name in names:
        try:
            documents.append(read(name))
        except FileError as error:
            errors.append(error)
    return _merge(documents, errors, named=named or len(names) > 1)


def parse(data: object) -> tuple[list[VhostConfig], list[str]]:
    """Return the vhosts in the mapping of one file and what to warn about. Raises ConfigErrors."""
    return _merge([Document("", data, None, [])], [], named=False)


def _merge(
    documents: list[Document], errors: list[FileError], *, named: bool
) -> tuple[list[VhostConfig], list[str]]:
    notes: dict[str, None] = {}  # in order, each once
    entries: list[_Entry] = []
    for document in documents:
        wrong = list(document.errors)
        refused: set[str] = set()
        entries += _vhosts(document, wrong, notes, refused)
        if not _says_vhosts(document.data):
            what = "a list of at least one vhost" if len(documents) == 1 else "a list, [] for none"
            wrong.append(ConfigError("vhosts", None, f"is required: {what}"))
        first = 1 if document.file else 0  # of a file with nothing in it
        placed = [
            _kind(e, refused)(e, document.file, document.line(e.field) or first, named=named) for e in wrong
        ]
        errors += sorted(placed, key=lambda error: error.line)
        if document.exposed is not None:
            name = document.file
            notes[
                f"{name} holds a password and can be read by others (mode {document.exposed:04o}): "
                f"chmod 600 {name}"
            ] = None
    errors += _duplicates(entries, named=named)
    excess = too_many(len(entries))
    if excess is not None:
        errors.append(FileError(excess, documents[-1].file, documents[-1].line("vhosts"), named=named))
    if not errors and not entries:
        missing = ConfigError("vhosts", None, "is required: a list of at least one vhost")
        errors.append(FileError(missing, documents[0].file, 0))
    if errors:
        kind = UnreadableErrors if all(isinstance(e, UnreadableError) for e in errors) else ConfigErrors
        raise kind(list(errors))
    return [entry.config for entry in entries if entry.config is not None], list(notes)


def _says_vhosts(data: object) -> bool:
    """Whether a file says which vhosts it has: unknown is not empty, and a full disk leaves files empty."""
    return data is not None and not (isinstance(data, dict) and data.get("vhosts") is None)


def _kind(error: ConfigError, refused: set[str]) -> type[FileError]:
    is_unread = error.field.endswith("passwordFile") and str(error.value) in refused
    return UnreadableError if is_unread else FileError


def _vhosts(
    document: Document, errors: list[ConfigError], notes: dict[str, None], refused: set[str]
) -> Iterator[_Entry]:
    """Yield the vhosts of one file; append to ``errors`` and ``notes``.

    ``refused`` gets the password files that are there and cannot be read.
    """

    def read_password(path: str) -> bytes:
        try:
            password, found = read_password_file(path)
        except ConfigError as error:
            if isinstance(error.__context__, OSError) and is_refused(error.__context__):
                refused.add(path)
            raise
        notes.update(dict.fromkeys(found))
        return password

    reader = Reader(document.data, "", errors)
    for index, item in enumerate(reader.sequence("vhosts")):
        path = f"vhosts[{index}]"
        try:
            config = parse_vhost(item, path=path, read_password=read_password)
        except ConfigErrors as found:
            errors.extend(found.errors)
            yield _Entry(document, path, None, tuple(_readable(item, path, found.errors)))
        else:
            yield _Entry(document, path, config, tuple(claims(config)))
    reader.finish()


def _duplicates(entries: Sequence[_Entry], *, named: bool) -> Iterator[FileError]:
    """Yield an error for each name, vhid on an interface, and address that two vhosts claim."""
    seen: dict[tuple[object, ...], _Entry] = {}
    for entry in entries:
        for field, value, scope in entry.claims:
            first = seen.setdefault((scope, value), entry)
            if first is entry:
                continue
            file, line = first.place
            elsewhere = f"{file}, " if file != entry.document.file else ""
            where = f" ({elsewhere}line {line})" if line else ""
            path = f"{entry.path}.{field}"
            error = ConfigError(path, value, f"is already used by vhost {first.title}{where}")
            yield FileError(error, entry.document.file, entry.document.line(path), named=named)


def claims(config: VhostConfig) -> Iterator[Claim]:
    """Yield each thing that one vhost alone may have."""
    addresses = {index: vip.ip for index, vip in enumerate(config.addresses)}
    return _claims(config.name, config.vhid, str(config.interface), addresses)


def _claims(name: str, vhid: int | None, interface: str, addresses: Mapping[int, Address]) -> Iterator[Claim]:
    """Yield claims; a name or an interface that is empty, and a vhid that is None, are not known."""
    if name:
        yield "name", name, "name"
    if vhid is not None and interface:
        yield "vhid", vhid, ("vhid", interface)
    for index, ip in addresses.items():
        scope = interface if ip.version == 6 and ip.is_link_local else "node"
        if scope:
            yield f"addresses[{index}]", str(ip), ("address", scope)


def _readable(item: Any, path: str, errors: Sequence[ConfigError]) -> Iterator[Claim]:
    """Yield what a vhost with mistakes claims all the same, by its fields that have none."""
    wrong = {error.field.removeprefix(f"{path}.").split(".")[0] for error in errors}
    if path in wrong:  # no mapping at all
        return iter(())
    interface = ""
    if "interface" not in wrong:
        interface = str(parse_vhost(_STAND_IN | {"interface": item["interface"]}).interface)
    texts = () if "addresses" in wrong else item["addresses"]
    addresses = {i: parse_vip(text).ip for i, text in enumerate(texts) if f"addresses[{i}]" not in wrong}
    name, vhid = ("" if "name" in wrong else item["name"]), (None if "vhid" in wrong else item["vhid"])
    return _claims(name, vhid, interface, addresses)
