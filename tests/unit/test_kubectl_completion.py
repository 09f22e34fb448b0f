from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from carp_operator.kubectl import completion
from carp_operator.kubectl import main as plugin

if TYPE_CHECKING:
    import pytest


def test_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    """There is one for each shell; those for bash and sh are read by their shells without complaint."""
    for shell in completion.SCRIPTS:
        assert 0 == plugin.main(["completion", shell])
        script = capsys.readouterr().out
        assert "kubectl-carp __complete" in script
        if shell != "zsh":
            program = {"bash": "bash", "kubectl": "sh"}[shell]
            subprocess.run([program, "-n"], input=script, text=True, check=True)


def test_bash_completes() -> None:
    """What bash would offer is what the plugin says, and files where it says so."""
    stub = """
    kubectl-carp() { [ "$3" = -f ] && echo :0 || printf 'status\\nsupport-bundle\\n:4\\n'; }
    COMP_WORDS=(kubectl-carp s); COMP_CWORD=1; _kubectl_carp; echo "${COMPREPLY[@]}"
    COMP_WORDS=(kubectl-carp diff -f /etc/passw); COMP_CWORD=3; _kubectl_carp; echo "${COMPREPLY[@]}"
    """
    script = completion.SCRIPTS["bash"] + stub
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert "status support-bundle" == done.stdout.splitlines()[0]
    assert "/etc/passwd" in done.stdout.splitlines()[1].split()
