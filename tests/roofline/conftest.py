"""What the roofline's tests share: the golden values beside the repository."""

import json
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[3] / "shared" / "reference" / "models_golden.json"


@pytest.fixture(scope="session")
def golden() -> dict[str, dict[str, Any]]:
    """Golden values by section, then by name; skips where the reference is absent."""
    if not GOLDEN.is_file():
        pytest.skip("needs the golden values in ../shared/reference")
    sections = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return {name: {entry["name"]: entry for entry in rows} for name, rows in sections.items()}
