"""`python -m jackfield_platforms.testing.conformance PLATFORM`: the kit where the core is not installed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jackfield_platforms.selection import PlatformError
from jackfield_platforms.testing.conformance.command import list_and_tell, run_and_tell
from jackfield_platforms.testing.conformance.run import DEFAULT_SEEDS, TRACEBACKS, ConformanceError, KitOptions

_COMMAND = "python -m jackfield_platforms.testing.conformance"


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line and run; 0 when the platform conforms, 1 when it does not, 2 when the kit cannot run."""
    given = _parser().parse_args(words)
    try:
        options = KitOptions(seeds=given.seeds, match=given.k, junit=given.junit, traceback=given.tb)
        if given.list:
            return list_and_tell(given.platform, options, given.json)
        return run_and_tell(given.platform, options, given.json, _COMMAND)
    except (PlatformError, ConformanceError) as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(_COMMAND, description=__doc__)
    parser.add_argument("platform", help="the entry point's name")
    parser.add_argument("--seeds", type=_positive, default=DEFAULT_SEEDS, help="random inputs a check (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write every result there")
    parser.add_argument("--junit", metavar="FILE", help="write JUnit's XML there")
    parser.add_argument("-k", metavar="EXPR", default="", help="only checks whose names match, as pytest's -k")
    parser.add_argument("--list", action="store_true", help="name the checks and count their cases, and run none")
    parser.add_argument("--tb", choices=TRACEBACKS, help="also print pytest's tracebacks of failures, in this form")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main())
