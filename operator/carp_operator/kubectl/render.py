"""`kubectl carp render`: VirtualIP manifests and a list of nodes -> each node's carp.yaml."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from carp_operator.kubectl.documents import STDIN, read
from carp_operator.kubectl.manifests import gather
from carp_operator.kubectl.nodes import Nodes
from carp_operator.kubectl.rendering import TARGET, render
from carp_operator.kubectl.usage import FAILED, OK, UsageError, complain, make_parser, put

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from carp_operator.kubectl.manifests import Manifests
    from carp_operator.kubectl.rendering import Rendered
    from carp_operator.kubectl.usage import Parser

_FILE: Final = "carp.yaml"
_DESCRIPTION: Final = f"""\
Print, for each node, the configuration file with which `carp daemon` serves these VirtualIPs there. It is
decided by the controller's own planner, but needs no cluster: so an API server's own address can be there
before the API server is. Put each file to {TARGET} of its node, with the password files that
are named at the end."""
_EPILOG: Final = """\
examples:
  kubectl carp render -f vip.yaml --node n1=10.1.1.1/24 --node n2=10.1.1.2/24 -o out
  kubectl get nodes,carpnodes -o yaml | kubectl carp render -f vip.yaml --nodes -
  kubectl get vip,vippool -o yaml | kubectl carp render -f - --nodes nodes.yaml

Give all VirtualIPs of the nodes at once: a file replaces the one before. Nothing is written if anything is
wrong. Whether a node is up, cordoned or in maintenance does not count: the file is for every start.

NODES is what `kubectl get nodes,carpnodes -o yaml` prints, or a list written by hand:
  - {name: n1, addresses: [10.1.1.1/24], interface: eth0, labels: {rack: a}}
Labels, for nodeSelector and nodePreferences, only NODES can give. Where no interface is named, the node
finds it by the subnet; all addresses without one count as on the same interface.

exit codes: 0; 1 with every problem on standard error, by file, object and field"""


def parser() -> Parser:
    """Return the command line of `kubectl carp render`."""
    result = make_parser("render", _DESCRIPTION, _EPILOG)
    add = result.add_argument
    add(
        "-f",
        "--filename",
        action="append",
        required=True,
        metavar="FILE",
        help="VirtualIP and VirtualIPPool manifests, YAML or JSON; - is standard input; may stand again",
    )
    add("--nodes", metavar="NODES", help="file with the nodes; - is standard input")
    add(
        "--node",
        action="append",
        default=[],
        metavar="NAME=[IFACE:]ADDR/PREFIX[,...]",
        help="a node and its addresses; one without IFACE is on the interface before it; may stand again",
    )
    add("-o", "--output", metavar="FOLDER", help=f"write FOLDER/NODE/{_FILE} instead of printing")
    add(
        "--password-file",
        default="/etc/carp/{vip}.pass",
        metavar="PATTERN",
        help="where the nodes find the password of the VirtualIP {vip} (default %(default)s)",
    )
    add("-q", "--quiet", action="store_true", help="no notes on standard error")
    return result


def main(words: Sequence[str]) -> int:
    """Render; return the exit code. Raises UsageError."""
    given = _options(words)
    manifests, problems = _manifests(given.filename)
    nodes = _nodes(given)
    problems += nodes.problems
    if nodes.problems:  # Where nodes are missing, nothing that the planner says is worth reading.
        return complain(problems)
    rendered = render(manifests, nodes, given.password_file)
    problems += rendered.problems
    if problems:
        return complain(problems)
    if given.output is None:
        put("---\n".join(rendered.files.values()))
    elif not _write(Path(given.output), rendered.files):
        return FAILED
    if not given.quiet:
        notes = [*manifests.notes, *rendered.notes, *_stale(given.output, rendered.files)]
        notes += _password_notes(manifests, rendered)
        sys.stderr.writelines(f"note: {note}\n" for note in notes)
    return OK


def _options(words: Sequence[str]) -> argparse.Namespace:
    chosen = parser()
    given = chosen.parse_args(words)
    help_ = f"see '{chosen.prog} --help'"
    if not given.nodes and not given.node:
        raise UsageError(f"--nodes or --node: at least one node is required; {help_}")
    if [*given.filename, given.nodes].count(STDIN) > 1:
        raise UsageError("standard input (-) can be read once only")
    if not given.password_file.startswith("/"):
        raise UsageError(f"--password-file: {given.password_file!r} is no absolute path")
    return given


def _manifests(files: Sequence[str]) -> tuple[Manifests, list[str]]:
    documents, problems = [], []
    for file in files:
        found, wrong = read(file)
        documents += found
        problems += wrong
    manifests = gather(documents)
    problems += manifests.problems
    if not manifests.titles and not problems:
        names = ", ".join("stdin" if file == STDIN else file for file in files)
        problems.append(f"{names}: there is no VirtualIP")
    return manifests, problems


def _nodes(given: argparse.Namespace) -> Nodes:
    result = Nodes()
    if given.nodes:
        documents, result.problems = read(given.nodes)
        result.add_documents(documents)
        file = "stdin" if given.nodes == STDIN else given.nodes
        if not documents and not result.problems:
            result.problems.append(f"{file}: there is no node")
        result.close(file)
    for word in given.node:
        result.add_word(word)
    return result


def _write(folder: Path, files: Mapping[str, str]) -> bool:
    """Write all files, or none where one cannot be written; whether they were."""
    fresh = {node: folder / node / f"{_FILE}.new" for node in files}
    try:
        for node, path in fresh.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[node], encoding="utf-8")
        for path in fresh.values():
            path.replace(path.with_suffix(""))
    except OSError as error:
        complain([f"{error.filename}: cannot be written: {error.strerror}"])
        for path in fresh.values():
            if path.is_file():
                path.unlink()
        return False
    return True


def _stale(output: str | None, files: Mapping[str, str]) -> list[str]:
    if output is None:
        return []
    found = sorted(path for path in Path(output).glob(f"*/{_FILE}") if path.parent.name not in files)
    return [f"{path}: is older: nothing was rendered for {path.parent.name}" for path in found]


def _password_notes(manifests: Manifests, rendered: Rendered) -> list[str]:
    notes = []
    for name, (path, nodes) in sorted(rendered.passwords.items()):
        spec = manifests.vips[name].spec
        secret = spec.secret if spec else None
        source = f", with the value of {secret.key} in the Secret {secret.name}" if secret else ""
        notes.append(f"{name}: needs {path} on {', '.join(nodes)}, the same on each, mode 0600{source}")
    paths = [path for path, _ in rendered.passwords.values()]
    make = f"(umask 077; tr -dc A-Za-z0-9 </dev/urandom | head -c 19 >{paths[0].rpartition('/')[2]})"
    return [*notes, f"a password has 1 to 19 bytes; to make one: {make}"]
