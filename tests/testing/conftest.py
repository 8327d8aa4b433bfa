"""Each test has a hub of its own, and may leave no task on it."""

from __future__ import annotations

from tests.sync.conftest import hub as hub
