"""Counters: what a node counts, and how Prometheus is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

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


HELP = {
    "subscribers": "Subscriptions of clients of this process",
    "published": "Messages that clients of this process have published",
    "publish_seconds": "Time that publishing took, until the store had the message safe",
    "delivered": "Items written to subscribers",
    "requests": "HTTP requests answered",
    "refused": "Requests and messages that were refused",
    "cut_off": "Clients cut off because they did not read",
    "store_errors": "Times that the store could not be reached",
}


def total(counters: Iterable[Counters]) -> Counters:
    """The sums over several nodes."""
    known = list(counters)
    names = [field.name for field in fields(Counters)]
    return Counters(**{name: sum(getattr(each, name) for each in known) for name in names})


def prometheus(counters: Counters, channels: int, resting: int) -> bytes:
    """What ``/metrics`` answers."""

    class Collector:
        def collect(self) -> Iterator[Metric]:
            yield GaugeMetricFamily("chat_channels", "Channels in use here", value=channels)
            yield GaugeMetricFamily("chat_resting", "Connections without a task", value=resting)
            for name, text in HELP.items():
                kind = GaugeMetricFamily if name == "subscribers" else CounterMetricFamily
                yield kind(f"chat_{name}", text, value=getattr(counters, name))

    registry = CollectorRegistry()
    registry.register(Collector())
    return generate_latest(registry)
