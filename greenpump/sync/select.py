"""select: wait for the first of several things, by Go's rules.

    match gp.select(gp.receiving(jobs), gp.sending(results, result), stop, timeout=1):
        case 0, gp.CLOSED:      # nobody will send on jobs any more
            return
        case 0, job:            # received
            work(job)
        case 1, _:              # sent
            result = next_result()
        case 2, _:              # stop, an Event, is set
            return
        case None:              # a second has passed
            print("idle")

The algorithm
-------------
Two selects may each be the other's partner, on several channels at once, and neither must commit to
two. As in Go (runtime/select.go):

1. Enter the latch of every channel that takes part, each once, in the order of their addresses: so
   selects that share channels can't wait for each other's. (With the GIL there is but one.)
2. Among the cases that can proceed take one at random and do it. This select is done; it stood in
   no queue, so nobody else can have committed to it.
3. If there is none, join the queue of every case, and only then leave the latches. So for any two
   selects that share a channel, one has looked at it and joined its queue before the other looks.
   What ``recv`` does without the latch (channel.py, 6) is looked for again after joining.
4. Join the places that have no latch: events, tasks that end, fds. Each is looked at anew
   after joining, as its own rules demand.
5. Park. Leave every place, whatever has happened.

Invariants
----------
1. A select that waits is claimed once: by its token, which is taken and never put back. Who gets it
   commits to the select and wakes it; its deadline or cancel takes it, too, to call the wait off
   (``abandon``).
2. Only who is *not* waiting claims others: a running ``send``, ``recv`` or step 2. It commits to
   nobody else before it returns. So of two partners one always runs, and no commitment has to be
   taken back.
3. Who fails to get the claim goes on as if that waiter were not there: the next in line is asked,
   and a case that finds nobody left is not ready; another one is drawn. All ready cases are
   equally probable: a draw among more, repeated until one holds, is a draw among those that hold.
4. What can raise (a cancelled scope, an fd epoll refuses) does so before the first place is joined.

Cost: linear in the cases, apart from sorting the latches. Nothing is allocated for a case that did
not have to wait, beyond the case itself.

Rejected: one channel's latch at a time (a select that finds a partner must then claim itself and
the partner in one step, which two latches can't); a sender task for each case (never cancelled
clean); a case with a function to call (the result of a ``match`` is clearer, and can return).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final, overload

from ..hub.local import this_hub
from ..hub.task import NOBODY, Task
from ..hub.timers import FAR
from ..hub.wait import wake
from .cases import Case, Selection, as_case, joined
from .channel import NOTHING
from .event import Event
from .latch import EVERYBODYS, enters_latch, held_up, in_order

chance: Final = Random()
"""Draws among the ready cases."""


@overload
def select(*cases: Case | Event | Task[Any] | None) -> tuple[int, Any]: ...
@overload
def select(
    *cases: Case | Event | Task[Any] | None, timeout: float | None
) -> tuple[int, Any] | None: ...
def select(
    *cases: Case | Event | Task[Any] | None, timeout: float | None = None
) -> tuple[int, Any] | None:
    """Do the first of several things that can be done; parks until one can. Exactly one is done.

    ``cases`` are made by ``receiving``, ``sending``, ``readable`` and ``writable``; an Event stands
    for being set, a Timer or Ticker for its time, a Task for its end (as ``join``: its error is not
    raised here), and None never proceeds. Of several that can proceed one is drawn, each with the
    same probability.

    Returns the case's number, from 0, and its value: the message received, None for one sent, else
    the event, task or socket itself. Returns None when ``timeout`` seconds pass first; with
    ``timeout=0``, which is Go's ``default``, it doesn't park. Without a case that could ever
    proceed it waits for ever, as in Go.

    Raises ChannelClosed for a send on a closed channel; Cancelled, in which case nothing was done;
    ValueError for a negative timeout; TypeError for what can't be waited for; RuntimeError for the
    task's own end. Source: the select statement of Go, reflect.Select.
    """
    hub = this_hub()
    deadline = FAR if not timeout else hub.timers.after(timeout)
    if timeout != 0:
        # Law 7: one that never has to wait is charged, too. Before anything is done, since the
        # yield may raise Cancelled.
        hub.quota = quota = hub.quota - 1
        if quota < 0 and hub.current is not NOBODY:
            hub.yield_now()
    ways: Sequence[Case] = cases  # type: ignore[assignment]
    others = False  # than channels
    for case in cases:
        if not isinstance(case, Case):
            ways = [case if isinstance(case, Case) else as_case(case) for case in cases]
            others = True
            break
        if case.channel is None:
            others = True
    while True:
        done = _attempt(ways, others, wait=timeout != 0)
        if type(done) is not Selection:
            return done  # type: ignore[return-value]
        try:
            if done.overtaken:
                done.look_again()
            if others:
                done.join_others()
            hub.wait(done.task, done, deadline)
        finally:
            done.leave()
        if done.number >= 0:
            return done.number, ways[done.number].outcome(done.value)
        if hub.timers.clock() >= deadline:
            return None


@enters_latch
def _attempt(ways: Sequence[Case], others: bool, wait: bool) -> tuple[int, Any] | Selection | None:
    """Steps 1 to 3: what was done, or the selection that has joined the queues of its channels."""
    ready = []
    if others:
        for number, case in enumerate(ways):
            if case.channel is None and case.ready():
                ready.append(number)
    latches = EVERYBODYS or in_order(
        [case.channel._latch for case in ways if case.channel is not None]
    )
    partner = None
    entered = 0
    try:
        for latch in latches:
            enter, _ = latch
            try:
                enter()
            except BaseException as error:
                held_up(latch, error)
            entered += 1
        for number, case in enumerate(ways):
            channel = case.channel
            if channel is not None and (
                (channel._senders or channel._buffer or channel._closed)
                if case.takes
                else (
                    channel._receivers
                    or channel._closed
                    or len(channel._buffer) < channel._capacity
                )
            ):
                ready.append(number)
        while ready:
            number = ready.pop(int(chance.random() * len(ready)))
            value, partner = ways[number].proceed()
            if value is not NOTHING:
                break
        else:
            return joined(ways, latches) if wait else None
    finally:
        for _, leave in latches[:entered]:
            leave()
    if partner is not None:
        wake(partner)
    return number, value
