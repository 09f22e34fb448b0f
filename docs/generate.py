# ruff: noqa: INP001 (a script, not a package)
"""Write docs/states.md and docs/schema.md from the code; with --check only compare them.

Run it as `.venv/bin/python docs/generate.py` after a change of the transitions or of the settings.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from carp.core.transitions import TABLE, Cause, State
from carp.daemon.jsonschema import VHOST

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = Path(__file__).parent
NOTE: Final = "<!-- Written by docs/generate.py from the code: do not edit. -->"

MEANING: Final = {
    Cause.LINK_UP: "The interface is usable and has a source address: listen first.",
    Cause.LINK_DOWN: "Interface, carrier or source address went away; a master lets go at once.",
    Cause.STOPPED: "The program ends, or the vhost was removed; a master bows out first.",
    Cause.LEASE_RESUMED: "The kernel still honours a lease of an earlier run that is proven ours.",
    Cause.FIRST_CLAIM: "Nobody was heard while listening, and nobody answered the probes.",
    Cause.DEAD_TIME: "The master was not heard for the dead time.",
    Cause.BOW_OUT: "The master that was heard last said that it goes.",
    Cause.PREEMPTED: "We are better placed than the master, and `preempt` allows it.",
    Cause.PEER_DEMOTED: "The master is demoted more than we are.",
    Cause.PEER_TOO_SLOW: "The master advertises so slowly that we would time out anyway.",
    Cause.BETTER_MASTER: "Two masters met, and the other is better placed.",
    Cause.TIE_LOST: "Two masters with one interval met, and the other stays.",
    Cause.HANDED_OVER: "A successor answered our bow-out.",
    Cause.LEASE_LAPSED: "The last renewal is older than the lifetime it gave: the kernel may have let go.",
    Cause.CLAIM_FAILED: "The takeover's advert did not leave in time, or the address could not be added.",
}

STATES: Final = f"""\
# States and transitions

{NOTE}

A vhost is in INIT while it cannot take part, in BACKUP while it listens, in MASTER while it holds the
addresses. What is not in this table does not happen. The cause stands in logs, status and metrics.

```mermaid
stateDiagram-v2
    [*] --> INIT
%s
```

| from | cause | to | when |
|---|---|---|---|
%s
"""

SETTINGS: Final = f"""\
# Settings of a vhost

{NOTE}

The fields of an entry of `vhosts:` in the file of `carp daemon`. Durations are written `3s`, `500ms`,
`1m30s`. `carp check FILE` tells every mistake with its line; `carp check --schema` prints a JSON Schema.

| field | value | default | meaning |
|---|---|---|---|
%s
"""


def states() -> str:
    """Return the page on states: a diagram and a table."""
    edges: dict[tuple[State, State], list[str]] = {}
    for (old, cause), new in TABLE.items():
        edges.setdefault((old, new), []).append(cause.value)
    diagram = [f"    {old} --> {new}: {', '.join(causes)}" for (old, new), causes in edges.items()]
    rows = [f"| {old} | {cause} | {new} | {MEANING[cause]} |" for (old, cause), new in TABLE.items()]
    return STATES % ("\n".join(diagram), "\n".join(rows))


def settings() -> str:
    """Return the page on settings."""
    return SETTINGS % "\n".join(_rows(VHOST, ""))


def _rows(fields: dict[str, Any], path: str) -> Iterator[str]:
    for name, schema in fields.items():
        default = schema.get("default", "")
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        cells = (
            f"`{path}{name}`",
            _value(schema),
            f"`{shown}`" if shown else "",
            schema.get("description", ""),
        )
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
        inside = schema.get("items", schema)
        for variant in (inside, *inside.get("anyOf", ())):
            yield from _rows(
                variant.get("properties", {}), f"{path}{name}{'[]' if 'items' in schema else ''}."
            )


def _value(schema: dict[str, Any]) -> str:
    """Return the kind and range of a field in words."""
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "$ref" in schema:
        return "duration"
    match schema.get("type"):
        case "integer":
            return f"{schema['minimum']} to {schema['maximum']}"
        case "boolean":
            return "`true`, `false`"
        case "array":
            low, high = schema.get("minItems", 0), schema.get("maxItems")
            return "empty list" if high == 0 else f"list of {low} {f'to {high}' if high else 'or more'}"
        case "string":
            return "text"
    return "mapping" if schema.get("type") == "object" else "text or mapping"


def main() -> int:
    """Write the pages; with --check return 1 and name those that differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--check", action="store_true", help="write nothing, exit 1 where a page is out of date"
    )
    check = parser.parse_args().check
    stale = 0
    for name, text in (("states.md", states()), ("schema.md", settings())):
        page = FOLDER / name
        if page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        if check:
            stale += 1
            sys.stderr.write(f"docs/{name} is out of date: run docs/generate.py\n")
        else:
            page.write_text(text, encoding="utf-8")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
