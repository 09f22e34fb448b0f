"""Read a carpd configuration file: YAML, `vhosts:` as a list (design.md section 8)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carp.core.errors import ConfigError, ConfigErrors
from carp.core.reader import Reader
from carp.core.schema import parse_vhost
from carp.passfile import read_password_file

if TYPE_CHECKING:
    from carp.core.config import VhostConfig


def load(path: str) -> tuple[list[VhostConfig], list[str]]:
    """Return the vhosts of a file and what to warn about. Raises ConfigErrors with all that is wrong."""
    import yaml  # noqa: PLC0415 (costs 3 MiB; only who reads a file pays)

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        data = yaml.load(Path(path).read_bytes(), Loader=loader)  # noqa: S506 (a safe loader)
    except OSError as error:
        raise ConfigErrors([ConfigError("--config", path, f"cannot be read: {error.strerror}")]) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2001-99-99
        problem = "is no YAML: " + " ".join(str(error).split())
        raise ConfigErrors([ConfigError("--config", path, problem)]) from None
    return parse(data)


def parse(data: object) -> tuple[list[VhostConfig], list[str]]:
    """Return the vhosts in the mapping of a file. Raises ConfigErrors."""
    errors: list[ConfigError] = []
    notes: list[str] = []
    configs: list[VhostConfig] = []
    reader = Reader(data, "", errors)

    def read_password(path: str) -> bytes:
        password, found = read_password_file(path)
        notes.extend(found)
        return password

    for index, item in enumerate(reader.sequence("vhosts")):
        try:
            configs.append(parse_vhost(item, path=f"vhosts[{index}]", read_password=read_password))
        except ConfigErrors as found:
            errors.extend(found.errors)
    reader.finish()
    if not errors and not configs:
        errors.append(ConfigError("vhosts", None, "is required: a list of at least one vhost"))
    if not errors:
        errors.extend(_duplicates(configs))
    if errors:
        raise ConfigErrors(errors)
    return configs, notes


def _duplicates(configs: list[VhostConfig]) -> list[ConfigError]:
    """Return an error for each name, vhid on an interface, and address that stands twice."""
    errors = []
    seen: dict[tuple[str, str], str] = {}
    for index, config in enumerate(configs):
        keys = [("name", config.name), (f"vhid on {config.interface}", str(config.vhid))]
        keys += [("address", str(vip.ip)) for vip in config.addresses]
        for kind, value in keys:
            if (kind, value) in seen:
                field = f"vhosts[{index}].{kind.partition(' ')[0]}"
                errors.append(ConfigError(field, value, f"is already used by vhost {seen[kind, value]}"))
            seen.setdefault((kind, value), config.name)
    return errors
