"""Counters: what a node counts, and how Prometheus is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Counters:
    """Plain numbers, so that counting costs next to nothing."""

    subscribers: int = 0
    published: int = 0
    publish_seconds: float = 0.0
    delivered: int = 0
    requests: int = 0
    refused: int = 0
    cut_off: int = 0
    store_errors: int = 0


Numbers = dict[str, float]
"""The counters of one process, and what there is at the moment."""

HELP = {
    "channels": "Channels in use",
    "resting": "Connections without a task",
    "subscribers": "Subscriptions of clients",
    "published": "Messages that clients have published",
    "publish_seconds": "Time that publishing took, until the store had the message safe",
    "delivered": "Items written to subscribers",
    "requests": "HTTP requests answered",
    "refused": "Requests and messages that were refused",
    "cut_off": "Clients cut off because they did not read",
    "store_errors": "Times that the store could not be reached",
}
GAUGES = {"channels", "resting", "subscribers"}


def total(numbers: Iterable[Numbers]) -> Numbers:
    """The sums."""
    known = list(numbers)
    return {name: sum(each.get(name, 0) for each in known) for name in HELP}


def prometheus(by_process: Mapping[str, Numbers], *, labelled: bool) -> bytes:
    """What ``/metrics`` answers; ``labelled``: each number with its process.

    The sum of several would fall when one of them ends, which to Prometheus is a new beginning.
    """
    labels = ["process"] if labelled else []

    class Collector:
        def collect(self) -> Iterator[Metric]:
            for name, text in HELP.items():
                kind = GaugeMetricFamily if name in GAUGES else CounterMetricFamily
                family = kind(f"chat_{name}", text, labels=labels)
                for process, numbers in by_process.items():
                    family.add_metric([process][: len(labels)], numbers[name])
                yield family

    registry = CollectorRegistry()
    registry.register(Collector())
    return generate_latest(registry)
