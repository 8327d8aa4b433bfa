"""Services that need each other, each started when the one before is ready; and a request's budget.

    python -m examples.services

The store is started first, and ``start`` returns its address once it listens; the front end asks
it. A start that fails (the address is taken) fails right there. Every request has 0.2 s for all of
its way: the front end hands what remains on to its connection to the store, and when the time is up
``after_cancel`` has the store told, which would otherwise go on for nobody.
"""

from __future__ import annotations

import errno

import greenpump as gp

Address = tuple[str, int]
BUDGET = 0.2
ANSWERS = {b"one": b"1", b"two": b"2"}


class Store:
    """Answers questions by TCP; some it has to think about for very long."""

    def __init__(self) -> None:
        self.given_up = gp.Channel[bytes](10)
        self.thinking: dict[bytes, gp.Scope] = {}

    def serve(self, address: Address, *, task_status: gp.TaskStatus[Address]) -> None:
        """Listen, say where, and answer."""
        with gp.listen(address) as listener, gp.Group() as group:
            task_status.started(listener.getsockname()[:2])
            while True:
                conn, _ = listener.accept()
                group.spawn(self.answer, conn)

    def answer(self, conn: gp.Socket) -> None:
        """Answer one question."""
        with conn:
            question = conn.recv(100)
            with gp.move_on_after() as scope:
                self.thinking[question] = scope
                if question not in ANSWERS:
                    gp.sleep(3600)
                conn.sendall(ANSWERS[question])
            if scope.expired:
                self.given_up.send(question)

    def give_up(self, question: bytes) -> None:
        """Nobody waits for the answer any more."""
        self.thinking[question].cancel("nobody waits for the answer")


def ask(store: Store, address: Address, question: bytes) -> bytes:
    """The answer, within ``BUDGET`` seconds; raises TimeoutError."""
    with gp.timeout(BUDGET) as scope:
        gp.after_cancel(scope, store.give_up, question)
        with gp.connect(address, timeout=gp.remaining()) as conn:
            conn.set_deadline(gp.deadline())
            conn.sendall(question)
            return conn.recv(100)


def main() -> None:
    store = Store()
    with gp.Group() as group:
        address: Address = group.start(store.serve, ("127.0.0.1", 0))
        try:
            group.start(store.serve, address)
        except OSError as error:
            print(f"a second one does not start: {errno.errorcode[error.errno or 0]}")
        for question in (b"one", b"two", b"everything"):
            try:
                print(f"{question.decode()}: {ask(store, address, question).decode()}")
            except TimeoutError:
                print(f"{question.decode()}: no answer in time")
        print(f"the store gave up {store.given_up.recv().decode()!r}")
        group.cancel()


if __name__ == "__main__":
    main()
