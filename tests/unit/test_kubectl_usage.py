from __future__ import annotations

import os
import subprocess
import sys

import pytest

from carp_operator.kubectl.usage import UsageError, complain, make_parser


def test_parser_raises() -> None:
    """What is wrong with the words is said in one line with the way to the help."""
    with pytest.raises(UsageError, match=r"--x; see 'kubectl carp try --help'$"):
        make_parser("try", "", "").parse_args(["--x"])


def test_complaints(capsys: pytest.CaptureFixture[str]) -> None:
    """Each problem is a line as kubectl writes it, and the exit code is 1."""
    assert 1 == complain(["a", "b"])
    assert "error: a\nerror: b\n" == capsys.readouterr().err


def test_a_reader_that_has_seen_enough() -> None:
    """A closed pipe is no error and no traceback."""
    read, write = os.pipe()
    os.close(read)
    code = "from carp_operator.kubectl.usage import put; put('x' * 100000)"
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (0, b"") == (done.returncode, done.stderr)
