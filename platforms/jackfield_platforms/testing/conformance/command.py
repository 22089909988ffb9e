"""What both commands do: run, write the report, print the last line."""

from __future__ import annotations

from pathlib import Path

from jackfield_platforms.testing.conformance.run import KitOptions, run


def run_and_tell(platform: str, options: KitOptions, json: str | None) -> int:
    """Run the kit on a platform and write its report to the file `json`; 0 when the platform conforms, otherwise 1."""
    report = run(platform, options)
    if json is not None:
        Path(json).write_bytes(report.to_json())
    print(report.last_line, flush=True)
    return 0 if report.conforms else 1
