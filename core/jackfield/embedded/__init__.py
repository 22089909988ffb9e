"""The small chat model that is served when no model is named. MODEL.md beside this file says how it was made."""

from __future__ import annotations

from pathlib import Path

EMBEDDED_MODEL = Path(__file__).parent
EMBEDDED_NAME = "jackfield-embedded"
