"""What holds for every test: one compute thread, so that small tensors do not wait for busy cores; and kernels of GPUs
are interpreted.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch, and for every process that a test starts
os.environ["TRITON_INTERPRET"] = "1"  # before Triton, which torch and transformers may import while tests are collected
