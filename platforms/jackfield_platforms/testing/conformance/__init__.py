"""The conformance kit: what any platform and its attention backends must pass, run on the device itself.

`python -m jackfield_platforms.testing.conformance PLATFORM`, or `jackfield conformance PLATFORM` where the core is
installed; docs/conformance.md says how to read a failure. Each `*_checks` module is one family. pytest is imported by
`run` alone, when it runs.
"""
