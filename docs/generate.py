# ruff: noqa: INP001 (a script, not a package)
"""Write what docs/ says of states, settings, commands, metrics and conditions; with --check only compare.

Run it as `.venv/bin/python docs/generate.py` after a change of the transitions, the settings, a command's
options or what is counted.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from carp.commands import completion, demotion, doctor, explain, handover, maintenance, status
from carp.core.transitions import TABLE, Cause, State
from carp.daemon import check
from carp.daemon.jsonschema import VHOST
from carp.daemon.main import parser as daemon_parser
from carp.daemon.metrics import TABLE as CARPD_METRICS
from carp.inspect import decode, watch
from carp.lab import demo
from carp.options import OPTIONS
from carp_operator.agent.metrics import TABLE as AGENT_METRICS
from carp_operator.agent.report import REASONS as AGENT_REASONS
from carp_operator.controller.counts import METRICS as CONTROLLER_METRICS
from carp_operator.kubectl.main import COMMANDS as PLUGIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from carp.daemon.registry import Family
    from carp.options import Option

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


COMMANDS: Final = f"""\
# Commands

{NOTE}

%s
"""

KUBECTL: Final = f"""\
# kubectl carp

{NOTE}

A plugin of kubectl: `kubectl carp COMMAND` runs the program `kubectl-carp` of the PATH, and so does
`kubectl-carp COMMAND`. It needs a kubeconfig and nothing else, and may what that kubeconfig may; what is
missing is said in one line. How to use `render`: [render.md](render.md).

%s
"""

PARSERS: Final = (
    daemon_parser(),
    check.parser(),
    status.parser(),
    explain.parser(),
    handover.parser(),
    maintenance.parser(),
    demotion.demote_parser(),
    demotion.undemote_parser(),
    doctor.parser(),
    decode.parser(),
    watch.parser(),
    demo.parser(),
    completion.parser(),
)


def commands() -> str:
    """Return the page on commands: what each is for, its arguments, what to know."""
    own = [_option(each) for each in OPTIONS if each.ucarp]
    more = [_option(each) for each in OPTIONS if not each.ucarp]
    parts = [
        "Each has a `--help`. Those with `--socket` ask a running `carp daemon`.",
        "## carp",
        "Takes part in one election. What differs from ucarp: [ucarp.md](ucarp.md).",
        _table("option", own),
        "Options that ucarp does not have:",
        _table("option", more),
        *(_command(each) for each in PARSERS),
    ]
    return COMMANDS % "\n\n".join(parts)


def kubectl() -> str:
    """Return the page on the plugin of kubectl: a list of its commands, then each."""
    found = {
        name: import_module(f"carp_operator.kubectl.{name.replace('-', '_')}").parser() for name in PLUGIN
    }
    table = ["| command | what it does |", "|---|---|"]
    table += [f"| [{name}](#kubectl-carp-{name}) | {text} |" for name, text in PLUGIN.items()]
    return KUBECTL % "\n\n".join(["\n".join(table), *(_command(each) for each in found.values())])


def _option(option: Option) -> tuple[str, str]:
    value = f" {option.metavar}" if option.metavar else ""
    names = ([f"-{option.short}"] if option.short else []) + [f"--{option.long}"]
    return ", ".join(f"`{name}{value}`" for name in names), option.help


def _command(parser: argparse.ArgumentParser) -> str:
    rows = []
    # argparse has no public list of a parser's arguments.
    for action in parser._actions:  # noqa: SLF001
        if "--help" in action.option_strings:
            continue
        value = _values(action)
        names = [f"{name} {value}".rstrip() for name in action.option_strings] or [value]
        rows.append((", ".join(f"`{name}`" for name in names), (action.help or "") % vars(action)))
    epilog = (parser.epilog or "").strip()
    notes = [f"```text\n{epilog}\n```" if "\n" in epilog else epilog] if epilog else []
    return "\n\n".join(
        [f"## {parser.prog}", (parser.description or "").strip(), _table("argument", rows), *notes]
    )


def _values(action: argparse.Action) -> str:
    """Return what stands for an argument's value; empty for a flag."""
    if action.choices is not None:
        value = "|".join(map(str, action.choices))
    elif action.nargs == 0:
        return ""
    else:
        value = str(action.metavar or action.dest.upper())
    return {"*": f"[{value} ...]", "?": f"[{value}]"}.get(str(action.nargs), value)


def _table(head: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {head} | meaning |", "|---|---|"]
    for cells in rows:
        escaped = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
        lines.append(f"| {' | '.join(escaped)} |")
    return "\n".join(lines)


def metrics() -> str:
    """Return the page on metrics."""
    return _page(
        "metrics.md",
        "## carpd",
        _families(CARPD_METRICS),
        "## The agent",
        _families(AGENT_METRICS),
        "## The controller",
        _families(CONTROLLER_METRICS),
    )


def troubleshooting() -> str:
    """Return the page on troubles, with what an agent's conditions mean."""
    rows = [(f"`{reason}`", meaning) for reason, meaning in AGENT_REASONS.items()]
    return _page("troubleshooting.md", "## Reasons of a CarpNode's conditions", _table("reason", rows))


def _page(name: str, *parts: str) -> str:
    """Return a page: what is written by hand, down to the note, then the parts."""
    page = (FOLDER / name).read_text(encoding="utf-8")
    return "\n\n".join([page.partition(NOTE)[0] + NOTE, *parts]) + "\n"


def _families(families: Iterable[Family[Any]]) -> str:
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(rows)


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
    pages = {
        "states.md": states(),
        "schema.md": settings(),
        "commands.md": commands(),
        "kubectl.md": kubectl(),
        "metrics.md": metrics(),
        "troubleshooting.md": troubleshooting(),
    }
    for name, text in pages.items():
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
