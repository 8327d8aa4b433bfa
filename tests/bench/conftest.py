"""For the tests of the benchmarks: the compiler they need."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest


@pytest.fixture
def gcc(require: Callable[[str, object, str], None]) -> None:
    require("gcc", shutil.which("gcc"), "apt-get install gcc libc6-dev")
