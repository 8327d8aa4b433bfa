"""The Markdown that people read: alignment, and that nothing without figures is left out."""

from __future__ import annotations

from bench.summary import CaseResult, PeerResult
from bench.tables import case_table, table
from bench.workload import Case, Metric

METRICS = (Metric("cpu_us", "CPU µs"), Metric("throughput", "messages/s", 0))


def rows_of(markdown: str) -> dict[str, list[str]]:
    """First cell of each line -> the others, as a reader of Markdown would see them."""
    lines = [line.strip("| ").split(" | ") for line in markdown.splitlines()]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in lines}


def test_table_aligns_and_escapes() -> None:
    assert table(["peer", "µs"], [["a|b", "1.00"], ["c", "12.00"]]).splitlines() == [
        "| peer |    µs |",
        "| ---- | ----: |",
        "| a\\|b |  1.00 |",
        "| c    | 12.00 |",
    ]


def test_case_table_has_medians_spread_and_ratios() -> None:
    case = CaseResult(
        Case("a case", ("echo",), {}),
        [
            PeerResult("greenpump", samples=[sample(8.0), sample(7.0), sample(9.0)]),
            PeerResult("c", samples=[sample(4.0), sample(4.0), sample(4.5)]),
        ],
    )
    rows = rows_of(case_table(case, METRICS, ("greenpump", "c")))
    assert rows["peer"] == ["CPU µs, median", "min – max", "÷ greenpump", "÷ c", "messages/s"]
    assert rows["greenpump"] == ["8.00", "7.00 – 9.00", "1.00", "2.00", "125,000"]
    assert rows["c"] == ["4.00", "4.00 – 4.50", "0.50", "1.00", "250,000"]


def test_missing_and_failed_peers_have_a_row_that_says_so() -> None:
    case = CaseResult(
        Case("a case", ("echo",), {}),
        [
            PeerResult("trio", status="missing", problem="trio (pip install trio)"),
            PeerResult("gevent", status="failed", problem="exit status 1: " + "long " * 50),
        ],
    )
    rows = rows_of(case_table(case, METRICS, ("greenpump",)))
    assert rows["trio"][0] == "missing: trio (pip install trio)"
    assert rows["gevent"][0].startswith("failed: exit status 1: long")
    assert len(rows["gevent"][0]) < 70


def sample(cpu_us: float) -> dict[str, float]:
    return {"cpu_us": cpu_us, "throughput": 1e6 / cpu_us}
