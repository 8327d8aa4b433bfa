"""Floor 3: where greenpump meets asyncio, concurrent.futures and plain threads.

=================================== ================================================================
a task wants a coroutine's result   ``run_coroutine(fetch(url))``
asyncio wants a task's result       ``await wait_for_task(spawn_on(hub, fn, arg))``
asyncio, or a library, wants tasks  ``TaskExecutor()``: ``await loop.run_in_executor(executor, fn)``
a plain thread wants a task         ``spawn_on(hub, fn, arg)``, from any thread; then ``.result()``
a task wants a blocking call        ``offload(fn, arg)``
=================================== ================================================================

``spawn_on`` takes the hub of a thread that waits in greenpump now and then: ``hub = hubs()[0]``,
asked in that thread. When it has ended, HubError says so. In a thread of asyncio's nothing of
greenpump may wait, since the event loop would wait with it: there one awaits.
"""

from .awaiting import wait_for_task
from .coroutines import run_coroutine
from .executor import TaskExecutor

__all__ = ["TaskExecutor", "run_coroutine", "wait_for_task"]
