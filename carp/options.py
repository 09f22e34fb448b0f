"""The command line of `carp` as one table: ucarp's options and a few of our own (carp-protocol.md section 7).

The table says which field of the schema an option sets. Judging values is the schema's work; what it
complains about is told with the option's name.
"""

from __future__ import annotations

import difflib
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from carp.core.errors import CarpError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class UsageError(CarpError):
    """The words of the command line make no sense, whatever their values."""


class Kind(enum.Enum):
    """How an option's value is read."""

    FLAG = "no value"
    TEXT = "a word; the last one counts, as with ucarp"
    NUMBER = "a decimal number; the last one counts"
    LIST = "a word; each one counts"


@dataclass(frozen=True, slots=True)
class Option:
    """One option: ``field`` is the schema's field that it sets, ``value`` what a flag sets it to."""

    short: str
    long: str
    field: str
    kind: Kind = Kind.FLAG
    metavar: str = ""
    help: str = ""
    value: object = True
    aliases: tuple[str, ...] = ()
    ucarp: bool = True

    @property
    def name(self) -> str:
        """The option as messages call it."""
        return f"--{self.long} (-{self.short})" if self.short else f"--{self.long}"


_FLAG, _TEXT, _NUMBER, _LIST = Kind.FLAG, Kind.TEXT, Kind.NUMBER, Kind.LIST

# fmt: off
OPTIONS: Final = (
    Option("i", "interface", "interface", _TEXT, "IF",
           help="network interface (default: the one in the address's subnet)"),
    Option("s", "srcip", "source", _LIST, "IP",
           help="own address that adverts come from (default: the interface's)"),
    Option("m", "mcastip", "transport.group", _LIST, "IP",
           help="multicast group (default 224.0.0.18, ff02::12)"),
    Option("v", "vhid", "vhid", _NUMBER, "ID", help="number of this shared address on its network, 1-255"),
    Option("p", "pass", "password", _TEXT, "PASSWORD",
           help="password, 1-19 bytes; visible to everybody on this host"),
    Option("o", "passfile", "passwordFile", _TEXT, "FILE",
           help="read the password from a file's first line"),
    Option("P", "preempt", "preempt.mode", value="Always",
           help="take over from a master that is less preferred"),
    Option("n", "neutral", "scripts.neutral", help="do not run the down script at start"),
    Option("a", "address", "addresses", _LIST, "IP", aliases=("addr",),
           help="shared address, IPv4 or IPv6, with /LENGTH if wanted; repeatable"),
    Option("h", "help", "help", help="show this"),
    Option("b", "advbase", "advbase", _NUMBER, "SECONDS", help="seconds between adverts, 0-255 (default 1)"),
    Option("k", "advskew", "advskew", _NUMBER, "SKEW",
           help="further 1/256 seconds, 0-254 (default 0); the lowest is preferred"),
    Option("u", "upscript", "scripts.up", _TEXT, "FILE",
           help="run FILE IF IP [VALUE] to become a master; it sets the address, not carp"),
    Option("d", "downscript", "scripts.down", _TEXT, "FILE",
           help="run FILE IF IP [VALUE] to become a backup"),
    Option("r", "deadratio", "deadRatio", _NUMBER, "RATIO",
           help="missed adverts until a master counts as dead, 1-255 (default 3)"),
    Option("D", "debug", "debug", help="log more"),
    Option("z", "shutdown", "scripts.onExit", help="run the down script at exit"),
    Option("B", "daemonize", "background", help="go to the background once started"),
    Option("S", "ignoreifstate", "ignoreLinkState", help="take part without a carrier, too"),
    Option("M", "nomcast", "transport.mode", value="Broadcast", help="send adverts as Ethernet broadcasts"),
    Option("f", "facility", "facility", _TEXT, "NAME", help="syslog facility, or none (default daemon)"),
    Option("x", "xparam", "scripts.argument", _TEXT, "VALUE", help="third argument of the scripts"),
    Option("", "peer", "transport.peers", _LIST, "IP", ucarp=False,
           help="send adverts to this node instead of a group; repeatable"),
    Option("", "preempt-after", "preempt.after", _TEXT, "TIME", ucarp=False,
           help="as --preempt, but only after a time such as 30s"),
    Option("", "seal", "authentication.mode", value="Sealed", ucarp=False,
           help="believe carp's adverts only, each once: recorded ones are refused"),
    Option("", "fencing", "fencing", _TEXT, "HOW", ucarp=False,
           help="Lifetime: the kernel removes the address when carp is killed (default\n"
                "without --upscript; with it, carp sets the address beside the script).\n"
                "Off: the address stays"),
    Option("", "release", "release", ucarp=False,
           help="at exit delete the address even if nobody takes over"),
    Option("", "state-dir", "stateDir", _TEXT, "DIR", ucarp=False,
           help="folder for the state while running (default /run/carp)"),
    Option("", "json", "json", ucarp=False, help="log JSON, one object a line, to standard error"),
    Option("", "version", "version", ucarp=False, help="show the version"),
)
# fmt: on

_BY_SHORT: Final = {option.short: option for option in OPTIONS if option.short}
_NAMES: Final = {name: option for option in OPTIONS for name in (option.long, *option.aliases)}
_UCARP_NAMES: Final = {("addr" if o.field == "addresses" else o.long): o for o in OPTIONS if o.ucarp}
BY_FIELD: Final = {option.field: option for option in OPTIONS}

USAGE: Final = (
    "usage: carp -v ID -a IP -o FILE [OPTION]... | status | daemon | check | decode | watch | demo; "
    "see carp --help"
)

_HEAD: Final = """\
Share an IP address between hosts by CARP: one holds it, and when that one dies another takes over.

carp [OPTION]...             takes part in one election; the options are those of ucarp
carp daemon --config FILE    takes part in many; carp check FILE checks the file
carp status|explain|doctor   shows what a running daemon does, why, and what is in its way
carp handover|maintenance    moves addresses to other hosts
carp demote|undemote         lets other hosts go first on one address, and takes that back
carp completion bash|zsh     prints the completion script for a shell
carp decode --pcap FILE      explains captured packets
carp watch -i IF             shows CARP on a network, live
carp demo                    plays failovers on a LAN inside this machine
"""

_TAIL: Final = """\
The password comes from --passfile, --pass or the environment variable CARP_PASSWORD.

Examples

  In place of ucarp, with its options and its scripts:
    carp -i eth0 -s 10.1.1.1 -v 42 -o /etc/carp.pass -a 10.1.1.252 \\
         -u /etc/vip-up.sh -d /etc/vip-down.sh -z -B

  Without scripts: carp holds the address, and the kernel takes it away if carp is killed:
    carp -v 42 -o /etc/carp.pass -a 10.1.1.252

  The second node, which takes over only when the first is gone:
    carp -v 42 -o /etc/carp.pass -a 10.1.1.252 -k 100
"""

Given = dict[str, list[str]]
"""What stands on a command line: values by field, the field given last at the end; a flag's is empty."""


def scan(argv: Sequence[str]) -> Given:
    """Return what is on a command line, by getopt's rules (bundled flags, prefixes). Raises UsageError."""
    given: Given = {}
    words = iter(argv)
    for word in words:
        if word.startswith("--") and word != "--":
            found = iter([_long(word[2:], words)])
        elif word.startswith("-") and word not in {"-", "--"}:
            found = _bundle(word[1:], words)
        else:
            raise UsageError(f"{word!r} belongs to no option; see carp --help")
        for option, value in found:
            given[option.field] = [*given.pop(option.field, ()), value]
    return given


def _long(text: str, words: Iterator[str]) -> tuple[Option, str]:
    name, equals, value = text.partition("=")
    option = _resolve(name)
    if option.kind is Kind.FLAG:
        if equals:
            raise UsageError(f"{option.name} takes no value, {value!r} is given")
        return option, ""
    return option, value if equals else _next(option, words)


def _bundle(text: str, words: Iterator[str]) -> Iterator[tuple[Option, str]]:
    for index, letter in enumerate(text):
        option = _BY_SHORT.get(letter)
        if option is None:
            raise UsageError(f"-{letter} is no option; see carp --help")
        if option.kind is not Kind.FLAG:
            yield option, text[index + 1 :] or _next(option, words)
            return
        yield option, ""


def _next(option: Option, words: Iterator[str]) -> str:
    try:
        return next(words)
    except StopIteration:
        raise UsageError(f"{option.name} needs a value: {option.metavar}") from None


def _resolve(name: str) -> Option:
    """Return the option with this name or prefix. What ucarp understands keeps ucarp's meaning."""
    if name in _NAMES:
        return _NAMES[name]
    for names in (_UCARP_NAMES, _NAMES):
        found = {id(option): option for long, option in names.items() if long.startswith(name)}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            candidates = ", ".join(f"--{option.long}" for option in found.values())
            raise UsageError(f"--{name} can be any of {candidates}")
    close = difflib.get_close_matches(name, _NAMES, 1)
    hint = f"did you mean --{close[0]}?" if close else "see carp --help"
    raise UsageError(f"--{name} is no option; {hint}")


def help_text() -> str:
    """Return what --help prints."""
    parts = [_HEAD]
    for title, ucarp in (("Options of ucarp", True), ("Options that ucarp does not have", False)):
        parts.append("\n".join([title, "", *(_help_line(o) for o in OPTIONS if o.ucarp is ucarp), ""]))
    return "\n".join([*parts, _TAIL])


def _help_line(option: Option) -> str:
    short = f"-{option.short}, " if option.short else "    "
    left = f"  {short}--{option.long}" + (f" {option.metavar}" if option.metavar else "")
    return f"{left:<26}  " + option.help.replace("\n", "\n" + " " * 28)
