"""A peer of the tests, whose library nobody has."""

import a_library_that_nobody_has  # type: ignore[import-not-found] # noqa: F401


def run() -> None:
    raise AssertionError("unreachable")
