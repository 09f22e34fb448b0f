"""Print as requirements with hashes what uv.lock pins for one package; the project itself is left out.

    locked.py uv.lock carp-operator[operator]

Needs nothing but the standard library: it runs where the image is built, before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

Locked = dict[str, Any]


def requirements(lock: Locked, wanted: str) -> list[str]:
    """Return one line for each package that ``wanted`` (``NAME`` or ``NAME[EXTRA]``) needs, sorted.

    Raises:
        ValueError: the lock lacks a package, holds one twice, or knows no hash of one.
    """
    root, extra = re.fullmatch(r"([\w.-]+)(?:\[([\w.-]+)\])?", wanted, flags=re.ASCII).groups()  # type: ignore[union-attr]
    markers: dict[str, set[str]] = {}
    todo = [(root, extra or "", "")]
    seen = set()
    while todo:
        name, extra, marker = todo.pop()
        markers.setdefault(name, set()).add(marker)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        package = _package(lock, name)
        needed = package.get("optional-dependencies", {}).get(extra, []) if extra else []
        for each in [*package.get("dependencies", []), *needed]:
            todo += [(each["name"], e, each.get("marker", "")) for e in each.get("extra", [""])]
    return [
        _line(_package(lock, name), markers[name])
        for name in sorted(markers)
        if "registry" in _package(lock, name)["source"]
    ]


def _package(lock: Locked, name: str) -> Locked:
    found: list[Locked] = [each for each in lock["package"] if each["name"] == name]
    if len(found) != 1:
        msg = f"uv.lock holds {name} {len(found)} times; one is needed"
        raise ValueError(msg)
    return found[0]


def _line(package: Locked, markers: set[str]) -> str:
    files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    if not files:
        msg = f"uv.lock knows no file of {package['name']}"
        raise ValueError(msg)
    where = "" if "" in markers else " ; " + " or ".join(f"({each})" for each in sorted(markers))
    hashes = " ".join(f"--hash={each['hash']}" for each in files)
    return f"{package['name']}=={package['version']}{where} {hashes}"


def main() -> None:
    """Print the requirements."""
    path, wanted = sys.argv[1:]
    try:
        print("\n".join(requirements(tomllib.loads(Path(path).read_text(encoding="utf-8")), wanted)))
    except ValueError as error:
        sys.exit(f"locked.py: {error}")


if __name__ == "__main__":
    main()
