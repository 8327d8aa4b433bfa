"""What a task costs: to spawn and join, to switch, to guard with a timeout."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.options import positive
from bench.process import PeerProcess
from bench.registry import Peer
from bench.workload import Bench, Case, Metric, Sample, Workload

PATIENCE = 120.0


class Tasks(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tasks", type=positive, default=20_000)
        parser.add_argument("--switches", type=positive, default=200_000)
        parser.add_argument("--timeouts", type=positive, default=50_000)

    def cases(self, args: Namespace) -> Sequence[Case]:
        return [
            self._case("spawn, run and join an empty task", "spawn", args.tasks),
            self._case("the same for a task that yields once", "spawn_parking", args.tasks),
            self._case("yield to the only other task", "switch", args.switches),
            self._case("enter and leave timeout(30)", "timeout", args.timeouts),
        ]

    def _case(self, label: str, what: str, count: int) -> Case:
        return Case(f"{label} (× {count:,})", ("tasks",), {"what": what, "count": count})

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        with PeerProcess(peer, case.params, bench.server_cpu) as process:
            return process.result(PATIENCE)


WORKLOAD = Tasks(
    name="tasks",
    about="spawn and join, switch, timeout",
    metrics=(Metric("cpu_us", "CPU µs each"), Metric("wall_us", "wall µs each")),
    compared_to=("greenpump", "gevent"),
    notes=(
        "All tasks of a case are spawned first, then joined. Each figure is of the second time "
        "the same work is done in a process: pools and allocators are warm.",
        "An empty task never gives up the CPU, which lets a library that pools run it without a "
        "switch; one that yields once needs a stack or a coroutine of its own.",
    ),
)
