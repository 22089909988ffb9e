"""What holds for every test: one compute thread, so that small tensors do not wait for busy cores."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch, and for every process that a test starts
