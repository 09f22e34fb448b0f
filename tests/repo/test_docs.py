"""The documents agree with the code: links, commands, settings, the table of bounds."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from importlib import import_module
from textwrap import dedent
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
import yaml

import fakecarpd
from carp.core.errors import CarpError, DropReason
from carp.core.timing import Timing
from carp.daemon import configfile
from carp.daemon.control import RequestError
from carp.daemon.operations import Operations
from carp.daemon.status import segment_status
from carp.hostlinks import HostLink
from carp.inspect import decode_main
from carp.links import Place
from carp.options import OPTIONS, scan
from carp.segment import Segment
from carp_operator.api import codec
from carp_operator.api.reasons import REASONS
from carp_operator.kubectl.main import COMMANDS as PLUGIN
from carp_operator.plan import facts, handover
from carp_operator.plan.clock import derive
from tree import ROOT, files

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

DOCUMENTS = [name for name in files() if name.endswith(".md")]
KUBERNETES = ("Service", "SecurityContextConstraints")  # kinds of manifests that are not ours
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", flags=re.MULTILINE | re.DOTALL)


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _blocks(name: str, language: str) -> list[str]:
    return [dedent(body) for kind, body in FENCE.findall(_text(name)) if kind == language]


def _anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings as forges make them."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), flags=re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


def _lines() -> Iterator[tuple[str, list[str]]]:
    """Yield the words of each command line in the documents' shell blocks and inline code, with the page."""
    for name in DOCUMENTS:
        prose = FENCE.sub("", _text(name))
        inline = re.findall(r"`((?:carp|kubectl|make|helm) [^`]+)`", prose)
        for block in (*_blocks(name, "sh"), *inline):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r" \| |; | && ", line):
                    yield name, shlex.split(part, comments=True)


def _carp_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield the arguments of each `carp` command line, those inside of a container included."""
    for name, words in _lines():
        if words[:1] == ["kubectl"] and "--" in words:
            words = words[words.index("--") + 1 :]  # noqa: PLW2901 (what the container runs)
        if words[:1] == ["carp"] and len(words) > 1 and words[1].islower():
            yield name, words[1:]


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command: "daemon" of carp, "carp doctor" of kubectl."""
    found = {each.prog.removeprefix("carp "): each for each in _generator().PARSERS}
    for name in PLUGIN:
        found[f"carp {name}"] = import_module(f"carp_operator.kubectl.{name.replace('-', '_')}").parser()
    return found


def _understood(parser: argparse.ArgumentParser, words: Sequence[str]) -> bool:
    if words and set(words) <= {"-h", "--help"}:
        return True
    try:
        parser.parse_args(words)
    except (CarpError, SystemExit):
        return False
    return True


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_resolve(name: str) -> None:
    """Each relative link leads to a file of the tree, and its anchor to a heading there."""
    broken = []
    for link in LINK.findall(FENCE.sub("", _text(name))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists() or (anchor and anchor not in _anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert [] == broken


def test_every_page_is_found_from_the_readme() -> None:
    """Each page of docs/ has a link in the README."""
    linked = set(LINK.findall(_text("README.md")))
    assert set() == {name for name in DOCUMENTS if name.startswith("docs/")} - linked


def test_make_commands_exist() -> None:
    """Each `make TARGET` is a target."""
    named = {words[1] for _, words in _lines() if words[:1] == ["make"]}
    assert {"demo", "demo-cluster", "test"} <= named
    targets = set(re.findall(r"^([a-z-]+):.*## ", _text("Makefile"), flags=re.MULTILINE))
    assert set() == named - targets


def test_carp_command_lines_are_understood() -> None:
    """Each `carp` command line is one that the program accepts."""
    parsers, seen, wrong = _parsers(), set(), []
    for name, words in _carp_lines():
        if words[0].startswith("-"):
            scan(words)
            continue
        seen.add(words[0])
        bare = len(words) == 1 and words[0] in parsers  # only named
        if not bare and not (words[0] in parsers and _understood(parsers[words[0]], words[1:])):
            wrong.append((name, words))
    assert [] == wrong
    assert {"decode", "watch", "daemon", "doctor"} <= seen


def test_kubectl_carp_command_lines_are_understood() -> None:
    """Each `kubectl carp` command line is one that the plugin accepts."""
    parsers, seen, wrong = _parsers(), set(), []
    for name, words in _lines():
        if words[:2] != ["kubectl", "carp"] or words[2:3] in ([], ["COMMAND"]):
            continue
        seen.add(words[2])
        known = f"carp {words[2]}" in parsers
        if not known or (words[3:] and not _understood(parsers[f"carp {words[2]}"], words[3:])):
            wrong.append((name, words))
    assert [] == wrong
    assert {"status", "explain", "handover", "maintenance", "doctor", "diff", "render"} <= seen


def test_options_named_in_prose_exist() -> None:
    """Each option that stands in inline code is one of our programs', or of a program named here."""
    others = {
        "--anonymous-auth",
        "--authentication-config",
        "--iface",
        "--node-ip",
        "--only",
        "--reset-then-reuse-values",
        "--reuse-values",
        "--set",
        "--set-json",
        "--take-ownership",
        "--control-plane-endpoint",
        "--no-hooks",
        "--print",
        "--nomcast",
        "--help",
    }
    known = {f"--{option.long}" for option in OPTIONS} | others
    for parser in _parsers().values():
        known.update(option for action in parser._actions for option in action.option_strings)
    for program in ("agent/main.py", "controller/options.py"):
        known.update(re.findall(r'"(--[a-z-]+)"', _text(f"operator/carp_operator/{program}")))
    pages = [name for name in DOCUMENTS if name.startswith("docs/") or "/" not in name]
    named = {(p, o) for p in pages for o in re.findall(r"`(--[a-z][a-z-]+)", FENCE.sub("", _text(p)))}
    foreign = {"docs/ucarp.md"}  # has those of ucarp itself
    assert set() == {(page, option) for page, option in named if option not in known and page not in foreign}


def test_values_of_the_chart_named_in_documents_exist() -> None:
    """Each dotted name that begins like a value of the chart is one, as is each that `--set` names."""
    values = yaml.safe_load(_text("charts/carp-operator/values.yaml"))
    heads = "|".join(values)
    wrong = []
    for page in DOCUMENTS:
        named = re.findall(rf"`((?:{heads})\.[\w.]+)(?:[:=][^`]*)?`", FENCE.sub("", _text(page)))
        named += re.findall(r"--set ([\w.]+)=", _text(page))
        wrong += [(page, name) for name in named if not _has(values, name.rstrip(".").split("."))]
    assert [] == wrong


def _has(values: Any, path: Sequence[str]) -> bool:
    return not path or (isinstance(values, dict) and path[0] in values and _has(values[path[0]], path[1:]))


def test_annotations_and_reasons_named_in_documents_exist() -> None:
    """What stands behind `carp.vip/`, and the reasons of the page on troubles, are the code's."""
    known = {facts.INTERFACES, facts.MAINTENANCE, handover.ANNOTATION, "carp.vip/v1alpha1"}
    text = "\n".join(_text(name) for name in DOCUMENTS)
    assert set() == set(re.findall(r"carp\.vip/[a-z][\w-]*", text)) - known
    page = _text("docs/troubleshooting.md")
    named = set(re.findall(r"^(?:Accepted|Advertised|Ready) (\w+):", page, flags=re.MULTILINE))
    for heading in re.findall(r"^### ([A-Z]\w+(?:, [A-Z]\w+)*)$", page, flags=re.MULTILINE):
        named.update(heading.split(", "))
    assert {"NoCandidate", "Conflict", "PoolExhausted"} <= named | {"Conflict"}
    assert set() == named - set(REASONS)


def test_decoded_example_of_the_readme_is_what_carp_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON under `carp decode` is its output."""
    lines = [words for _, words in _carp_lines() if words[0] == "decode" and "--hex" in words]
    assert 0 == decode_main(lines[0][1:])
    (example,) = _blocks("README.md", "json")
    assert json.loads(example) == json.loads(capsys.readouterr().out)


def _manifests() -> Iterator[tuple[str, Any]]:
    for name in DOCUMENTS:
        for block in _blocks(name, "yaml"):
            yield from ((name, document) for document in yaml.safe_load_all(block))


def test_example_files_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each manifest and each configuration file shown is one that is accepted, without a warning."""
    monkeypatch.setattr(configfile, "read_password_file", lambda path: (b"example", []))
    pages = set()
    for name, document in _manifests():
        if document.get("kind") in KUBERNETES:
            continue
        pages.add(name)
        if document.get("kind") == "VirtualIP":
            assert () == codec.virtual_ip(document, strict=True).errors, name
            continue
        configs, notes = configfile.parse(document)
        assert configs, name
        assert [] == notes, name
    assert {"README.md", "docs/election.md", "docs/control-plane.md", "docs/pairing.md"} <= pages


def test_table_of_failover_times_is_what_the_planner_computes() -> None:
    """Each row of docs/failover-time.md: advbase, advskews, ratio, bound, L, adverts, two owners."""
    rows = re.findall(r"^\| `(\w+)` \|(.+)\|$", _text("docs/failover-time.md"), flags=re.MULTILINE)
    assert {"100ms", "1s", "3s"} <= {time for time, _ in rows}
    for time, rest in rows:
        spec = {"addresses": ["10.1.1.252"], "failoverTime": time}
        vip = codec.virtual_ip({"metadata": {"name": "a"}, "spec": spec})
        assert vip.spec is not None
        clock = derive(vip.spec)
        timing = Timing(clock.advbase, clock.skew(0), clock.ratio)
        assert [
            f"{clock.advbase}",
            f"{clock.skew(0)}, {clock.skew(1)}",
            f"{clock.ratio}",
            f"{clock.bound():.3f}",
            f"{timing.lifetime()}",
            f"{clock.adverts():.1f}",
            f"{timing.overlap_bound():.2f}",
        ] == [cell.strip() for cell in rest.split("|")], time


def test_table_of_bounds_is_what_the_code_computes() -> None:
    """Each row of docs/fencing.md: dead time, L, period and the time with two owners."""
    rows = re.findall(r"^\|((?: [\d.]+ \|){7})$", _text("docs/fencing.md"), flags=re.MULTILINE)
    assert "1 | 0 | 3" in " ".join(rows)
    for row in rows:
        advbase, advskew, ratio, *stated = [cell.strip() for cell in row.strip("|").split("|")]
        timing = Timing(int(advbase), int(advskew), int(ratio))
        assert [
            f"{timing.dead_time():.3f}",
            f"{timing.lifetime()}",
            f"{timing.advert_period():.3f}",
            f"{timing.overlap_bound():.2f}",
        ] == stated, row


def test_files_named_in_the_architecture_exist() -> None:
    """Each path in backticks is in the tree."""
    named = re.findall(r"`((?:carp|docs|tests|operator)/[\w./]*)`", _text("ARCHITECTURE.md"))
    assert named
    assert [] == [name for name in named if not (ROOT / name).exists()]


def _rows(page: str, heading: str) -> list[str]:
    """Return the names in the first column of the table under a heading."""
    part = _text(page).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([^|]+) \|", part, flags=re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_fields_of_the_status_are_documented() -> None:
    """Each field of a vhost, the daemon and interfaces has its row in docs/socket.md, and no other has."""
    assert set(fakecarpd.vhost()) == set(_rows("docs/socket.md", "A vhost"))
    assert set(fakecarpd.hello()) == set(_rows("docs/socket.md", "The daemon"))
    assert set(HostLink._fields) == set(_rows("docs/socket.md", "An interface of the host"))
    segment = segment_status(Segment(Place(1, "eth0", bytes(6), ())), None, [])
    assert set(segment) == set(_rows("docs/socket.md", "An interface in use"))


def test_operations_and_reasons_are_documented() -> None:
    """Each operation that carpd takes and each reason to drop a packet, and no other."""
    with pytest.raises(RequestError) as refused:
        Operations(MagicMock()).carry_out("", {}, MagicMock())
    known = set(str(refused.value).partition("one of ")[2].split(", "))
    assert known == set(_rows("docs/socket.md", "Operations"))
    reasons = _text("docs/socket.md").partition("\n## Reasons\n")[2]
    assert set(DropReason) == set(re.findall(r"`([a-z]+)`", reasons))
