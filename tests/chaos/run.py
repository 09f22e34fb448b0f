"""Hurt a cluster in every way for some minutes: `make chaos ARGS="--seed 7 --minutes 10"`."""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from carp.lab.privilege import missing_capabilities  # noqa: E402
from chaos_kinds import STEPS  # noqa: E402
from chaos_run import FailedError, Run  # noqa: E402 (the path stands above)


def main() -> int:
    """Run; 1 with the seed after a broken invariant, 2 where this machine does not allow it."""
    options = _options()
    missing = missing_capabilities(Path("/proc/self/status").read_text(encoding="ascii"))
    if missing or os.geteuid() != 0:
        print(f"needs root and {', '.join(missing) or 'nothing else'}", file=sys.stderr)
        return 2
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}, {options.minutes:g} minutes", flush=True)
    run = Run(seed, options.minutes * 60, options.only or (), lambda line: print(line, flush=True))
    try:
        run.work()
    except FailedError as error:
        print(f"FAILED --seed {seed} --minutes {options.minutes:g}: {error}", flush=True)
        return 1
    print("\n".join(run.table()))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="of the steps and all that is random in them")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long steps go on (default 3)")
    parser.add_argument(
        "--only", action="append", choices=sorted(STEPS), metavar="STEP",
        help=f"only this kind, may be given again: {', '.join(sorted(STEPS))}",
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
