"""From samples to figures: medians, spread, ratios, verdicts on targets. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.workload import Case, Metric, Sample, Target


@dataclass(frozen=True)
class Spread:
    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


@dataclass
class PeerResult:
    """All rounds of one peer in one case. With a `problem` there is nothing to compare."""

    peer: str
    about: str = ""
    samples: list[Sample] = field(default_factory=list)
    status: str = "ok"
    """ok, missing or failed"""
    problem: str = ""
    stderr: str = ""

    def spread(self, metric: Metric) -> Spread | None:
        if self.status != "ok":
            return None
        values = [sample[metric.key] for sample in self.samples if metric.key in sample]
        return Spread.of(values) if values else None


@dataclass
class CaseResult:
    case: Case
    peers: list[PeerResult]

    def find(self, peer: str) -> PeerResult | None:
        return next((result for result in self.peers if result.peer == peer), None)

    def ratio(self, peer: str, base: str, metric: Metric) -> Spread | None:
        """`peer` over `base`, round by round, or None when either has no figures.

        Two samples of one round were taken seconds apart. On a shared machine, whose speed drifts
        over minutes, the median of their ratios varies half as much as the ratio of the medians.
        """
        over, under = self.find(peer), self.find(base)
        if over is None or under is None or over.spread(metric) is None:
            return None
        if under.status != "ok" or any(sample[metric.key] == 0 for sample in under.samples):
            return None
        pairs = zip(over.samples, under.samples, strict=True)
        return Spread.of([one[metric.key] / other[metric.key] for one, other in pairs])


@dataclass(frozen=True)
class Verdict:
    case: str
    target: Target
    metric: Metric
    measured: Spread | None
    """A ratio, or the figure itself if the target names no peer."""

    @property
    def outcome(self) -> str:
        if self.measured is None:
            return "not measured"
        return "met" if self.target.met_by(self.measured.median) else "missed"


def verdicts(results: Sequence[CaseResult], metrics: Sequence[Metric]) -> list[Verdict]:
    by_key = {metric.key: metric for metric in metrics} | {"": metrics[0]}
    found = []
    for result in results:
        for target in result.case.targets:
            metric = by_key[target.metric]
            if target.peer:
                measured = result.ratio(target.of, target.peer, metric)
            else:
                measured = own.spread(metric) if (own := result.find(target.of)) else None
            found.append(Verdict(result.case.label, target, metric, measured))
    return found


def ranked(results: Sequence[PeerResult], metric: Metric) -> list[PeerResult]:
    """Best first; those without figures last, by name."""

    def place(result: PeerResult) -> tuple[bool, float, str]:
        spread = result.spread(metric)
        return (spread is None, spread.median if spread else 0.0, result.peer)

    return sorted(results, key=place)


def as_json(
    result: CaseResult, metrics: Sequence[Metric], bases: Sequence[str]
) -> dict[str, object]:
    return {
        "case": result.case.label,
        "params": dict(result.case.params),
        "peers": [_peer_json(result, peer, metrics, bases) for peer in result.peers],
    }


def _peer_json(
    case: CaseResult, peer: PeerResult, metrics: Sequence[Metric], bases: Sequence[str]
) -> dict[str, object]:
    entry: dict[str, object] = {"peer": peer.peer, "about": peer.about, "status": peer.status}
    if peer.status != "ok":
        return entry | {"problem": peer.problem, "stderr": peer.stderr}
    summary: dict[str, Mapping[str, float]] = {}
    for metric in metrics:
        if spread := peer.spread(metric):
            summary[metric.key] = vars(spread)
    ratios = {
        base: vars(ratio)
        for base in bases
        if (ratio := case.ratio(peer.peer, base, metrics[0])) is not None
    }
    return entry | {"summary": summary, "ratio_to": ratios, "samples": peer.samples}
