"""`kubectl carp completion`: scripts that ask `kubectl-carp __complete` what may stand next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carp_operator.kubectl.usage import OK, make_parser, put

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp_operator.kubectl.usage import Parser

_EPILOG: Final = """\
examples:
  . <(kubectl-carp completion bash)
  kubectl-carp completion zsh > "${fpath[1]}/_kubectl-carp"
  kubectl carp completion kubectl > /usr/local/bin/kubectl_complete-carp

bash and zsh: for the word kubectl-carp. kubectl: a program that kubectl's own completion asks for what
follows `kubectl carp`; put it into a folder of the PATH, with mode 0755. A package installs it already.

exit codes: 0; 1 for an error"""
_BASH: Final = """\
# Completion of kubectl-carp for bash
_kubectl_carp() {
  local lines directive current="${COMP_WORDS[COMP_CWORD]}"
  mapfile -t lines < <(kubectl-carp __complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" "$current" 2>/dev/null)
  [ "${#lines[@]}" -gt 0 ] || return
  directive="${lines[-1]}"
  unset 'lines[-1]'
  COMPREPLY=("${lines[@]}")
  if [ "$directive" = :0 ]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}
complete -F _kubectl_carp kubectl-carp
"""
_ZSH: Final = """\
#compdef kubectl-carp
# Completion of kubectl-carp for zsh
_kubectl_carp() {
  local -a lines
  lines=("${(@f)$(kubectl-carp __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  (( $#lines )) || return
  local directive="$lines[-1]"
  lines[-1]=()
  if [ "$directive" = :0 ]; then _files; else compadd -- "${lines[@]}"; fi
}
if [ "$funcstack[1]" = _kubectl-carp ]; then _kubectl_carp "$@"; else compdef _kubectl_carp kubectl-carp; fi
"""
_KUBECTL: Final = """\
#!/bin/sh
# kubectl runs this to complete what follows `kubectl carp`.
exec kubectl-carp __complete "$@"
"""
SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "kubectl": _KUBECTL}


def parser() -> Parser:
    """Return the command line of `kubectl carp completion`."""
    result = make_parser("completion", "Print a completion script.", _EPILOG)
    result.add_argument("shell", choices=tuple(SCRIPTS))
    return result


def main(words: Sequence[str]) -> int:
    """Print a script; return the exit code. Raises UsageError."""
    put(SCRIPTS[parser().parse_args(words).shell])
    return OK
