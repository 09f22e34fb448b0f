"""What the steps of one advert cost, in microseconds; the bounds of the other parts follow from these."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from arena import side_by_side, team
from contenders import ALL, Load
from figures import Figure

from carp.lab.errors import LabError
from carp.lab.node import module_environment

_STEPS = Path(__file__).with_name("steps.py")


def _measure(rounds: int) -> dict[str, float]:
    """Run the steps inside a node, where their adverts reach nobody but the lab."""
    with team(ALL["carp"], Load()) as group:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": module_environment()}
        process = group.seats[0].node.popen([sys.executable, str(_STEPS), str(rounds)], **options)
        output, problem = process.communicate(timeout=120)
        if process.returncode:
            msg = f"steps.py failed: {problem.decode().strip().splitlines()[-1]}"
            raise LabError(msg)
        found: dict[str, float] = json.loads(output)
        return found


def run(*, quick: bool) -> list[Figure]:
    """Measure each step alone."""
    found = side_by_side({"carp": partial(_measure, 300 if quick else 3000)})["carp"]
    return [Figure("micro", what, "us", value) for what, value in found.items()]
