"""What both commands do: run and tell what was found, or list what there is; the counts are the last line."""

from __future__ import annotations

from pathlib import Path

from jackfield_platforms.testing.conformance.run import DEFAULT_SEEDS, ConformanceError, KitOptions, list_checks, run
from jackfield_platforms.testing.conformance.telling import failures, listing, listing_last_line, not_offered


def run_and_tell(platform: str, options: KitOptions, json: str | None, command: str) -> int:
    """Run the kit on a platform and write its report to the file `json`; 0 when the platform conforms, otherwise 1.

    `command` is what was typed, without what chooses a platform and checks: failures say how to run them again.
    """
    report = run(platform, options)
    if json is not None:
        Path(json).write_bytes(report.to_json())
    again = f"{command} {platform}" + ("" if options.seeds == DEFAULT_SEEDS else f" --seeds {options.seeds}")
    for text in (failures(report, again), not_offered(report)):
        if text:
            print(text)
    print(f"\n{report.last_line}", flush=True)
    return 0 if report.conforms else 1


def list_and_tell(platform: str, options: KitOptions, json: str | None) -> int:
    """Print the checks that `options` choose, without running one."""
    given = {"--json": json, "--junit": options.junit, "--tb": options.traceback}
    for name in (name for name, value in given.items() if value is not None):
        raise ConformanceError(
            f"--list runs no check, so that {name} would have nothing to show; leave one of them out."
        )
    checks = list_checks(platform, options)
    print(listing(checks))
    print(listing_last_line(checks, options.seeds), flush=True)
    return 0
