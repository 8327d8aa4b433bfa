"""greenpump: detach_until_readable, so that an idle connection holds no task."""

from __future__ import annotations

import greenpump as gp


def run(port: int, recv_size: int) -> None:
    def on_readable(conn: gp.Socket) -> None:
        data = conn.recv(recv_size)
        if not data:
            conn.close()
            return
        conn.sendall(data)
        conn.detach_until_readable(on_readable)

    def main() -> None:
        with gp.listen(("127.0.0.1", port)) as listener:
            while True:
                conn, _ = listener.accept()
                conn.detach_until_readable(on_readable)

    gp.run(main)
