from __future__ import annotations

import re

import pytest

from carp.options import OPTIONS, Kind, Option, UsageError, help_text, scan

# Every option of `ucarp --help` (1.5.2): short, long, whether it takes a value.
UCARP = [
    ("i", "interface", True),
    ("s", "srcip", True),
    ("m", "mcast", True),
    ("v", "vhid", True),
    ("p", "pass", True),
    ("o", "passfile", True),
    ("P", "preempt", False),
    ("n", "neutral", False),
    ("a", "addr", True),
    ("h", "help", False),
    ("b", "advbase", True),
    ("k", "advskew", True),
    ("u", "upscript", True),
    ("d", "downscript", True),
    ("r", "deadratio", True),
    ("D", "debug", False),
    ("z", "shutdown", False),
    ("B", "daemonize", False),
    ("S", "ignoreifstate", False),
    ("M", "nomcast", False),
    ("f", "facility", True),
    ("x", "xparam", True),
]


def _of(short: str) -> Option:
    return next(option for option in OPTIONS if option.short == short)


@pytest.mark.parametrize(("short", "long", "takes_value"), UCARP)
def test_ucarps_options_are_there_by_both_names(short: str, long: str, takes_value: bool) -> None:
    """An option of ucarp's is read alike in each spelling that getopt allows; -m works, too (B26)."""
    value = "7" if takes_value else ""
    spellings = [[f"-{short}{value}"], [f"--{long}={value}" if takes_value else f"--{long}"]]
    if takes_value:
        spellings += [[f"-{short}", value], [f"--{long}", value]]
    assert [{_of(short).field: [value]}] * len(spellings) == [scan(words) for words in spellings]


def test_prefixes_mean_what_they_mean_to_ucarp() -> None:
    """A long name may be cut where ucarp's own options stay distinct, even where one of ours begins alike."""
    words = ["--inter", "e", "--vh=1", "--add", "1.2.3.4", "--pree", "--f", "none", "--mc", "224.0.0.20"]
    fields = ["interface", "vhid", "addresses", "preempt.mode", "facility", "transport.group"]
    assert fields == list(scan(words))
    assert ["preempt.after"] == list(scan(["--preempt-a", "3s"]))
    assert ["transport.peers"] == list(scan(["--pe", "10.1.1.2"]))


def test_short_options_can_be_bundled() -> None:
    """Flags stand together behind one dash, and the last may take a value."""
    given = {"preempt.mode": [""], "scripts.onExit": [""], "vhid": ["7"]}
    assert given == scan(["-Pzv7"])
    assert given == scan(["-Pzv", "7"])


def test_a_value_may_look_like_an_option() -> None:
    """What follows an option that takes a value is its value, as with getopt."""
    assert {"password": ["-P"]} == scan(["-p", "-P"])


def test_fields_are_ordered_by_their_last_use() -> None:
    """The order tells which of -p and -o came last."""
    assert ["passwordFile", "password"] == list(scan(["-p", "a", "-o", "f", "-p", "b"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bogus"], "--bogus is no option; see carp --help"),
        (["--premept"], "--premept is no option; did you mean --preempt?"),
        (["-q"], "-q is no option; see carp --help"),
        (["-Pq"], "-q is no option; see carp --help"),
        (["--p", "x"], "--p can be any of --pass, --passfile, --preempt"),
        (["--preempt=1"], "--preempt (-P) takes no value, '1' is given"),
        (["--vhid"], "--vhid (-v) needs a value: ID"),
        (["-v"], "--vhid (-v) needs a value: ID"),
        (["--peer"], "--peer needs a value: IP"),
        (["-P", "yes"], "'yes' belongs to no option; see carp --help"),
        (["--", "yes"], "'--' belongs to no option; see carp --help"),
        (["-"], "'-' belongs to no option; see carp --help"),
    ],
)
def test_nonsense_is_refused_with_the_word(words: list[str], message: str) -> None:
    """What is no option, or lacks its value, is an error that names it (B20)."""
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        scan(words)


def test_help_shows_every_option_and_three_examples() -> None:
    """The help has a line for each option of the table, within 110 columns, and its examples can be read."""
    text = help_text()
    assert all(f"--{option.long}" in text for option in OPTIONS)
    assert max(len(line) for line in text.splitlines()) <= 110
    examples = re.findall(r"^    carp (.*)$", text.replace("\\\n", ""), flags=re.MULTILINE)
    assert 3 == len(examples)
    for example in examples:
        assert {"vhid", "passwordFile", "addresses"} <= set(scan(example.split()))


def test_the_table_is_unambiguous() -> None:
    """Each field, name and letter belongs to one option; what takes a value says what."""
    for kind in ("field", "long"):
        values = [getattr(option, kind) for option in OPTIONS]
        assert len(values) == len(set(values))
    letters = [option.short for option in OPTIONS if option.short]
    assert len(letters) == len(set(letters))
    assert [] == [option for option in OPTIONS if bool(option.metavar) is (option.kind is Kind.FLAG)]
