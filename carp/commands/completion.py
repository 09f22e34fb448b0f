"""`carp completion`: a script with which bash or zsh completes `carp` command lines.

Made from the table of ucarp's options and from what each command says in its --help, so that nothing has
to be written twice. Names of vhosts come from carpd at the time of completing.
"""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from carp import commands
from carp.commands.arguments import OK, make_parser, say
from carp.options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carp.commands.arguments import Parser

_EPILOG: Final = """\
bash, now and in new shells:
    . <(carp completion bash)
    carp completion bash > /usr/share/bash-completion/completions/carp
zsh, after compinit, and in new shells:
    . <(carp completion zsh)
    carp completion zsh > "${fpath[1]}/_carp"
"""
_FILES, _FOLDERS, _INTERFACES, _VHOSTS = "@files", "@folders", "@interfaces", "@vhosts"
_KINDS: Final = {
    "FILE": _FILES,
    "PATH": _FILES,
    "DIR": _FOLDERS,
    "IF": _INTERFACES,
    "--interface": _INTERFACES,
}
"""What completes a value, by the option or by what its help calls the value."""
_LINE: Final = re.compile(r"^ {2,4}(-\S.*?|\{\S+\}|[A-Z]+)(?:  .*)?$")
"""A line of argparse's help that begins an argument: options, choices or a positional's name."""
_OPTION: Final = re.compile(r"(-{1,2}[A-Za-z][\w-]*)(?:[ =](\{\S+\}|[A-Z]\w*))?")
_SINGLE: Final = ("demote", "explain", "handover", "undemote")
"""Commands that take one vhost; others take any number."""


@dataclass(slots=True)
class Spec:
    """What a command takes: words or a kind of value by option (empty: a flag), and for its other words."""

    options: dict[str, str] = field(default_factory=dict)
    words: str = ""


def parser() -> Parser:
    """Return the command line of `carp completion`."""
    result = make_parser("completion", "Print the completion script for a shell.", _EPILOG, asks=False)
    result.add_argument("shell", choices=("bash", "zsh"))
    return result


def main(argv: Sequence[str]) -> int:
    """Print a script and return the exit code."""
    say(script(parser().parse_args(argv).shell))
    return OK


def script(shell: str) -> str:
    """Return the completion script for bash or zsh."""
    frame = _BASH if shell == "bash" else _ZSH
    return frame.replace("@candidates@", "\n".join(_candidates(specs())))


def specs() -> dict[str, Spec]:
    """Return what each command takes, by its name; the empty name is ucarp's command line."""
    found = {name: read_help(text) for name, text in _helps()}
    first = Spec(words=" ".join(sorted(found)))
    for option in OPTIONS:
        value = _values(f"--{option.long}", option.metavar)
        for name in (f"-{option.short}" if option.short else "", f"--{option.long}"):
            if name:
                first.options[name] = value
    return {"": first, **found}


def read_help(text: str) -> Spec:
    """Return what a command takes from the text of its --help."""
    spec = Spec()
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        head = match[1]
        if not head.startswith("-"):
            spec.words = spec.words or (_VHOSTS if head == "NAME" else _values("", head))
            continue
        pairs = _OPTION.findall(head)
        value = next((value for _, value in reversed(pairs) if value), "")
        for name, _ in pairs:
            spec.options[name] = _values(pairs[-1][0], value)
    return spec


def _values(option: str, value: str) -> str:
    if value.startswith("{"):
        return value.strip("{}").replace(",", " ")
    return _KINDS.get(option, _KINDS.get(value, " " if value else ""))


def _helps() -> Iterator[tuple[str, str]]:
    from carp.daemon.check import main as check  # noqa: PLC0415 (each imports much, and only this needs all)
    from carp.daemon.main import main as daemon  # noqa: PLC0415
    from carp.inspect import decode_main, watch_main  # noqa: PLC0415
    from carp.lab.demo import main as demo  # noqa: PLC0415

    others: dict[str, Callable[[list[str]], int]] = {
        "check": check,
        "daemon": daemon,
        "decode": decode_main,
        "demo": demo,
        "watch": watch_main,
    }
    for name, run in others.items():
        yield name, _help_of(run)
    for name in commands.NAMES:
        yield name, _help_of(partial(commands.main, name))


def _help_of(run: Callable[[list[str]], int]) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        run(["--help"])
    return text.getvalue()


def _candidates(found: dict[str, Spec]) -> Iterator[str]:
    """Yield the lines of the shell function's three questions: a value, an option, another word."""
    yield '  case "$1 $2" in'
    for command, spec in found.items():
        by_value: dict[str, list[str]] = {}
        for option, value in spec.options.items():
            if value:
                by_value.setdefault(value, []).append(f'"{command} {option}"')
        for value, patterns in by_value.items():
            yield f'    {" | ".join(patterns)}) echo "{value.strip()}"; return ;;'
    yield "  esac"
    for question, answer in (('"$3"', True), ("", False)):
        if question:
            yield f"  case {question} in -*)"
        yield '  case "$1" in'
        for command, spec in found.items():
            words = " ".join(spec.options) if answer else spec.words.strip()
            if words:
                yield f'    "{command}") echo "{words}"{"; return" if answer else ""} ;;'
        yield "  esac"
        if question:
            yield "  return ;; esac"


_SHARED: Final = """\
_carp_candidates() {  # COMMAND PREVIOUS CURRENT: words that may stand here, or @kind
@candidates@
}

_carp_vhosts() {  # COMMAND WORDS...: names of vhosts that are not among the words yet
  local command="$1" socket="" before="" used=" " name
  shift
  for name in "$@"; do
    [ "$before" = --socket ] && socket="$name"
    before="$name"
    used="$used$name "
  done
  if [ -n "$socket" ]; then
    carp status -o json --socket "$socket"
  else
    carp status -o json
  fi 2>/dev/null | sed -n '/^  "vhosts": \\[$/,/^  ]/s/^ \\{6\\}"name": "\\(.*\\)",$/\\1/p' | {
    local found=""
    while read -r name; do
      case "$used" in
        *" $name "*) case "$command" in @single@) return ;; esac ;;
        *) found="$found $name" ;;
      esac
    done
    echo "$found"
  }
}

_carp_interfaces() {
  ls /sys/class/net
}
""".replace("@single@", " | ".join(_SINGLE))

_BASH: Final = f"""\
# Completion of carp for bash; made by: carp completion bash
{_SHARED}
_carp() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="" command="" kind
  if [ "$COMP_CWORD" -gt 1 ]; then
    previous="${{COMP_WORDS[COMP_CWORD - 1]}}"
    case "${{COMP_WORDS[1]}}" in -*) ;; *) command="${{COMP_WORDS[1]}}" ;; esac
  fi
  kind="$(_carp_candidates "$command" "$previous" "$current")"
  case "$kind" in
    @files) COMPREPLY=($(compgen -f -- "$current")); return ;;
    @folders) COMPREPLY=($(compgen -d -- "$current")); return ;;
    @interfaces) kind="$(_carp_interfaces)" ;;
    @vhosts) kind="$(_carp_vhosts "$command" "${{COMP_WORDS[@]:2:COMP_CWORD-2}}")" ;;
  esac
  COMPREPLY=($(compgen -W "$kind" -- "$current"))
}}
complete -o filenames -F _carp carp"""

_ZSH: Final = f"""\
#compdef carp
# Completion of carp for zsh; made by: carp completion zsh
{_SHARED}
_carp() {{
  local previous="" command="" kind
  if (( CURRENT > 2 )); then
    previous="$words[CURRENT-1]"
    case "$words[2]" in -*) ;; *) command="$words[2]" ;; esac
  fi
  kind="$(_carp_candidates "$command" "$previous" "$words[CURRENT]")"
  case "$kind" in
    @files) _files; return ;;
    @folders) _files -/; return ;;
    @interfaces) kind="$(_carp_interfaces)" ;;
    @vhosts) kind="$(_carp_vhosts "$command" "${{(@)words[3,CURRENT-1]}}")" ;;
  esac
  compadd -- ${{=kind}}
}}
if [ "$funcstack[1]" = _carp ]; then _carp "$@"; else compdef _carp carp; fi"""
