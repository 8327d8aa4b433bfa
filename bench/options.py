"""Types of command-line values."""

from __future__ import annotations


def names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def positives(text: str) -> tuple[int, ...]:
    return tuple(positive(part) for part in names(text))


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
