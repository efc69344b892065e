"""Small real video files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Write a video below the test's folder; see `numbered.write`."""
    pytest.importorskip("av")
    import numbered

    def make(name: str = "video.mp4", *args: Any, **options: Any) -> Path:
        return numbered.write(tmp_path / name, *args, **options)

    return make
