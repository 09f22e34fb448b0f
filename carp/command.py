"""From what stands on the command line to a checked vhost and the way to run it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from carp.core.config import Fencing
from carp.core.errors import ConfigError, ConfigErrors
from carp.core.schema import parse_vhost
from carp.options import BY_FIELD, OPTIONS, Kind
from carp.passfile import read_password_file

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from carp.core.config import VhostConfig
    from carp.options import Given, Option

PASSWORD_VARIABLE: Final = "CARP_PASSWORD"  # noqa: S105 (its name, not its value)
STATE_DIR: Final = "/run/carp"
_FACILITY: Final = "daemon"

# Settings of the process, not of the vhost; a password comes by its own way.
_OURS: Final = {"help", "version", "background", "facility", "debug", "json", "stateDir", "release"}
_SECRETS: Final = {"password", "passwordFile"}
# An empty value of these means "none"; of any other option it is an empty shell variable.
_MAY_BE_EMPTY: Final = {"password", "scripts.argument"}
# Fields of the schema that share an option with another field.
_SHARED: Final = {
    "source6": "source",
    "transport.group6": "transport.group",
    "interface.name": "interface",
}

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Command:
    """What the command line asks for; ``notes`` are warnings to log, ``facility`` None means no syslog."""

    config: VhostConfig
    notes: tuple[str, ...]
    state_dir: str
    release: bool
    background: bool
    facility: str | None
    debug: bool
    json: bool


def command(given: Given, environ: MutableMapping[str, str]) -> Command:
    """Return the checked command; its errors name options. Raises ConfigErrors.

    The password is taken out of the environment, so that no script inherits it.
    """
    from carp.logs import FACILITIES  # noqa: PLC0415 (a wrong option must not wait for it)

    errors: list[ConfigError] = []
    notes: list[str] = []
    password = _find_password(given, environ, notes)
    facility = _last(given, "facility", _FACILITY).lower()
    if facility not in FACILITIES:
        errors.append(ConfigError("facility", facility, f"is not one of {', '.join(FACILITIES)}"))
    # Always by way of the callback: a password on the command line may be any bytes, not only a text.
    data = {**_mapping(given, errors), "passwordFile": password.origin}
    try:
        config = parse_vhost(data, read_password=lambda _: password.read(notes))
    except ConfigErrors as found:
        errors += found.errors
    if errors:
        raise ConfigErrors(_in_options(errors, password))
    return Command(
        config=config,
        notes=(*notes, *_script_notes(config)),
        state_dir=_absolute(_last(given, "stateDir", STATE_DIR)),
        release="release" in given,
        background="background" in given,
        facility=None if facility == "none" else facility,
        debug="debug" in given,
        json="json" in given,
    )


def _last(given: Given, field: str, default: str) -> str:
    return given[field][-1] if field in given else default


def _mapping(given: Given, errors: list[ConfigError]) -> dict[str, Any]:
    """Return the schema's fields. What the words alone make wrong goes to ``errors``."""
    data: dict[str, Any] = {}
    for option in OPTIONS:
        values = given.get(option.field)
        if values is None:
            continue
        if option.kind is not Kind.FLAG and "" in values and option.field not in _MAY_BE_EMPTY:
            errors.append(ConfigError(option.field, "", "is empty"))
        elif option.field not in _OURS | _SECRETS:
            _put(data, option.field, _value(option, values, errors))
    _split_families(data)
    _conclude(data, given, errors)
    return data


def _value(option: Option, values: list[str], errors: list[ConfigError]) -> object:
    if option.kind is Kind.FLAG:
        return option.value
    if option.kind is Kind.LIST:
        return values
    if option.kind is Kind.TEXT:
        return values[-1]
    if not _DECIMAL.fullmatch(values[-1]):
        problem = "is not a decimal number, written without sign, 0x or a leading 0"
        errors.append(ConfigError(option.field, values[-1], problem))
        return 1
    return int(values[-1])


def _put(data: dict[str, Any], field: str, value: object) -> None:
    *sections, key = field.split(".")
    for section in sections:
        data = data.setdefault(section, {})
    data[key] = value


def _split_families(data: dict[str, Any]) -> None:
    """Give each family its field; within a family the last value counts, as with ucarp."""
    for section, key in ((data, "source"), (data.get("transport", {}), "group")):
        for text in section.pop(key, ()):
            section[key + "6" if ":" in text else key] = text


def _conclude(data: dict[str, Any], given: Given, errors: list[ConfigError]) -> None:
    """Add what follows from several options together."""
    if "transport.peers" in given:
        if "transport.mode" in given:
            errors.append(ConfigError("transport.peers", None, f"excludes {BY_FIELD['transport.mode'].name}"))
        data["transport"]["mode"] = "Unicast"
    if "preempt.after" in given:
        data["preempt"]["mode"] = "After"
    scripts = data.setdefault("scripts", {})
    for key in ("up", "down"):
        if scripts.get(key):
            scripts[key] = _absolute(scripts[key])
    scripts.setdefault("onExit", False)
    # A fence that is asked for by name needs an address of ours beside the scripts.
    data["manageAddresses"] = not scripts.get("up") or data.get("fencing") == Fencing.LIFETIME
    addresses = data.get("addresses") or [""]
    place = data.setdefault("interface", {"subnet": "auto"})
    data["name"] = _name(place if isinstance(place, str) else f"auto-{addresses[0].partition('/')[0]}", data)


def _absolute(path: str) -> str:
    """Return a path that also holds in the background, where the folder is another; links are kept."""
    return str(Path.cwd() / path)


def _name(place: str, data: dict[str, Any]) -> str:
    """Return the vhost's name in logs and in the state folder: eth0.42, or auto-10.1.1.252.42."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", place).strip("-._")[:50]
    return f"{safe or 'carp'}.{data.get('vhid', 0)}"


@dataclass(frozen=True, slots=True)
class _Password:
    """Where the password comes from, and the path or the text given there."""

    origin: str
    text: str | None
    is_file: bool

    def read(self, notes: list[str]) -> bytes:
        """Return the password and add what is to be said about it. Raises ConfigError."""
        if self.text is None:
            problem = f"is required: a file, or --pass PASSWORD, or {PASSWORD_VARIABLE} in the environment"
            raise ConfigError(self.origin, None, problem)
        if not self.is_file:
            return os.fsencode(self.text)
        password, found = read_password_file(self.text)
        notes += found
        return password


def _find_password(given: Given, environ: MutableMapping[str, str], notes: list[str]) -> _Password:
    """Return the password given last, as with ucarp; else the environment's."""
    in_environment = environ.pop(PASSWORD_VARIABLE, None)
    for field in reversed(given):
        if field in _SECRETS:
            if field == "password":
                notes.append("every user of this host can see what --pass gives: better use --passfile FILE")
            return _Password(BY_FIELD[field].name, given[field][-1], field == "passwordFile")
    if in_environment is not None:
        return _Password(PASSWORD_VARIABLE, in_environment, is_file=False)
    return _Password(BY_FIELD["passwordFile"].name, None, is_file=True)


def _script_notes(config: VhostConfig) -> list[str]:
    """Return what an operator should know about the scripts before they are needed."""
    notes = []
    if not config.manage:
        notes.append(
            "the scripts set the address, not carp: nothing takes it away when carp is killed (see --fencing)"
        )
    for field, path in (("scripts.up", config.scripts.up), ("scripts.down", config.scripts.down)):
        if path and not os.access(path, os.X_OK):
            notes.append(f"{BY_FIELD[field].name}: {path!r} is no program that can be run")
    return notes


def _in_options(errors: list[ConfigError], password: _Password) -> list[ConfigError]:
    """Return the errors by options, without any password and without what only follows from a wrong value."""
    found: list[ConfigError] = []
    for error in errors:
        field = re.sub(r"\[\d+\]", "", error.field)
        option = BY_FIELD.get(_SHARED.get(field, field))
        name, value = option.name if option else error.field, error.value
        if field == "passwordFile":
            name, value = password.origin, password.text if password.is_file else None
        if value is not None or name not in {known.field for known in found}:
            found.append(ConfigError(name, value, error.problem))
    return found
