"""`kubectl carp diff`: what would change if a manifest were applied, by the controller's own planner."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from difflib import unified_diff
from typing import TYPE_CHECKING, Any, Final

from carp.commands import yamltext
from carp.core.errors import CarpError
from carp_operator.kubectl import access
from carp_operator.kubectl import reading as r
from carp_operator.kubectl.documents import STDIN, read
from carp_operator.kubectl.live import Picture, applied, picture, snapshot
from carp_operator.kubectl.manifests import gather
from carp_operator.kubectl.usage import OK, add_output, as_data, make_parser, put

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carp_operator.kubectl.manifests import Manifests
    from carp_operator.kubectl.usage import Parser

CHANGED: Final = 1
WRONG: Final = 2
_STEPS: Final = ("Accept", "Sign", "Drop")
_EPILOG: Final = """\
examples:
  kubectl carp diff -f vip.yaml
  kubectl carp diff -f vip.yaml -o json
  kustomize build . | kubectl carp diff -f -

Nothing is written. It shows members with their advskew, vhid, addresses, timing and conditions, of every
VirtualIP that would be touched, also of those that the manifest does not name. A changed password or address
list goes through three steps (Accept, Sign, Drop), and a changed failoverTime or transport may take several;
what is shown is the first. The objects are taken as they stand in the file: what is not in it counts as
removed.

exit codes: 0 nothing would change; 1 something would; 2 for an error (as kubectl diff has it)"""


@dataclass(frozen=True, slots=True)
class Change:
    """What differs about one VirtualIP or node; None: it is not there."""

    kind: str
    name: str
    live: dict[str, Any] | None
    applied: dict[str, Any] | None


def parser() -> Parser:
    """Return the command line of `kubectl carp diff`."""
    result = make_parser(
        "diff", "Show what applying VirtualIPs and pools would change in the cluster.", _EPILOG
    )
    result.add_argument(
        "-f",
        "--filename",
        action="append",
        required=True,
        metavar="FILE",
        help="manifests, YAML or JSON; - is standard input; may stand again",
    )
    add_output(result)
    access.add_options(result)
    return result


def main(words: Sequence[str]) -> int:
    """Show the difference; return the exit code."""
    try:
        return _run(words)
    except CarpError as error:
        sys.stderr.write(f"{access.explained(error)}\n")
        return WRONG


def _run(words: Sequence[str]) -> int:
    given = parser().parse_args(words)
    manifests = _manifests(given.filename)
    if manifests.problems:
        sys.stderr.writelines(f"error: {problem}\n" for problem in manifests.problems)
        return WRONG
    sys.stderr.writelines(f"note: {note}\n" for note in manifests.notes)
    live = snapshot(access.client(given), r.now())
    changes = list(compared(picture(live), picture(applied(live, manifests))))
    if given.output:
        put(as_data({"changes": [asdict(each) for each in changes]}, given.output))
    else:
        put("".join(line for each in changes for line in _lines(each)))
    return CHANGED if changes else OK


def _manifests(files: Sequence[str]) -> Manifests:
    if files.count(STDIN) > 1:
        raise CarpError("standard input (-) can be read once only")
    documents, problems = [], []
    for file in files:
        found, wrong = read(file)
        documents += found
        problems += wrong
    manifests = gather(documents)
    manifests.problems[:0] = problems
    if not manifests.problems and not manifests.vips and not manifests.pools:
        manifests.problems.append(f"{', '.join(files)}: there is no VirtualIP and no VirtualIPPool")
    return manifests


def compared(before: Picture, after: Picture) -> Iterator[Change]:
    """Yield each VirtualIP and node that differs."""
    for name in sorted(before.vips.keys() | after.vips.keys()):
        yield from _change("VirtualIP", name, before.vips.get(name), after.vips.get(name))
    for node in sorted(before.nodes.keys() | after.nodes.keys()):
        yield from _change("CarpNode", node, _told(before, node), _told(after, node))


def _change(
    kind: str, name: str, live: dict[str, Any] | None, wanted: dict[str, Any] | None
) -> Iterator[Change]:
    if live != wanted:
        yield Change(kind, name, live, wanted)


def _told(shown: Picture, node: str) -> dict[str, Any] | None:
    return {"vhosts": shown.nodes[node]} if node in shown.nodes else None


def _lines(change: Change) -> Iterator[str]:
    """Yield the lines of a unified diff."""
    title = f"{change.kind.lower()}/{change.name}"
    live, wanted = change.live, change.applied
    old, new = (yamltext.dump(side).splitlines(keepends=True) if side else [] for side in (live, wanted))
    yield from unified_diff(old, new, f"live/{title}", f"applied/{title}", n=1)
    before, step = (((side or {}).get("authentication") or {}).get("step") for side in (live, wanted))
    if step in _STEPS and step != before:
        yield f"# {title}: step {step} of {', '.join(_STEPS)}; each waits for every member\n"
