"""The documents agree with the code: links, commands, settings, the table of bounds."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING
from unittest.mock import MagicMock

import pytest

import fakecarpd
from carp.core.errors import DropReason
from carp.core.timing import Timing
from carp.daemon import configfile
from carp.daemon.control import RequestError
from carp.daemon.main import parser as daemon_parser
from carp.daemon.operations import Operations
from carp.daemon.status import segment_status
from carp.hostlinks import HostLink
from carp.inspect import decode_main
from carp.links import Place
from carp.options import scan
from carp.segment import Segment
from tree import ROOT, files

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTS = [name for name in files() if name.endswith(".md")]
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _blocks(name: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(_text(name)) if kind == language]


def _anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings as forges make them."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), flags=re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


def _carp_lines() -> Iterator[list[str]]:
    """Yield the arguments of each `carp` command line of the README."""
    for block in _blocks("README.md", "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["carp"]:
                yield words[1:]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_resolve(name: str) -> None:
    """Each relative link leads to a file of the tree, and its anchor to a heading there."""
    broken = []
    for link in LINK.findall(FENCE.sub("", _text(name))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.is_file() or (anchor and anchor not in _anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert [] == broken


def test_make_commands_of_the_readme_exist() -> None:
    """Each `make TARGET` in a shell block or the table of the README is a target."""
    text = "\n".join([*_blocks("README.md", "sh"), *re.findall(r"`(make [^`]+)`", _text("README.md"))])
    named = set(re.findall(r"^make ([a-z]+)", text, flags=re.MULTILINE))
    assert {"demo", "test"} <= named
    assert set() == named - set(re.findall(r"^([a-z]+):.*## ", _text("Makefile"), flags=re.MULTILINE))


def test_carp_command_lines_of_the_readme_are_understood() -> None:
    """Each `carp` line in a shell block is one that the program accepts."""
    lines = list(_carp_lines())
    for words in lines:
        if words[0].startswith("-"):
            scan(words)
        elif words[0] == "daemon":
            daemon_parser().parse_args(words[1:])
    assert {"decode", "watch", "daemon"} <= {words[0] for words in lines}


def test_decoded_example_of_the_readme_is_what_carp_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON under `carp decode` is its output."""
    (words,) = [words for words in _carp_lines() if words[0] == "decode"]
    assert 0 == decode_main(words[1:])
    (example,) = _blocks("README.md", "json")
    assert json.loads(example) == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["README.md", "docs/election.md"])
def test_example_files_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each configuration file shown is one that the daemon accepts, without a warning."""
    monkeypatch.setattr(configfile, "read_password_file", lambda path: (b"example", []))
    import yaml

    blocks = _blocks(name, "yaml")
    assert blocks
    for block in blocks:
        configs, notes = configfile.parse(yaml.safe_load(block))
        assert configs
        assert [] == notes


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
