"""Paged attention that several devices share, and the dense definition that all of it is compared with.

Import the module that you need: `.dense` (the oracle), `.flat_blocks` (static shapes), `.paged` (any shape).
"""
