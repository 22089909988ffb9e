"""The plugin SDK of Jackfield: what a device implements, and how it is found.

Import the module that you need (`jackfield_platforms.platform`, `.attention`, …): this package itself imports nothing,
so that a probe can use `jackfield_platforms.probe` without paying for torch.
"""

API_VERSION = (0, 1)  # (major, minor); stays (0, n) until the interfaces are proved, see docs/plugins.md
