"""An HTTP server in a process of its own that says yes to everything, for what would measure the sandbox otherwise.

It reads a request's head as bytes and skips its body; of users it counts the records, by a key each of them has.
"""

from __future__ import annotations

import multiprocessing
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

SUCCESS = b'{"msg":"","code":"Success","params":null}'
BULK_SUCCESS = (
    b'{"successCount":%d,"failCount":0,"invalidEmails":[],"invalidUserIds":[],"filteredOutFields":[],'
    b'"createdFields":[],"disallowedEventNames":[],"failedUpdates":{}}'
)
ANSWERS = {
    b"GET /api/users/getFields": b'{"fields":{}}',
    b"GET /api/channels": b'{"channels":[]}',
}
BULK = b"POST /api/users/bulkUpdate"
RECORD = b'"email":'


class Stub:
    """A server that runs: its address, its process, and what it has counted."""

    def __init__(self, url: str, pid: int, pipe: Connection) -> None:
        self.url, self.pid, self._pipe = url, pid, pipe

    def counted(self) -> dict[str, int]:
        """Return how many requests came, how many records were in those with users, and their bytes."""
        self._pipe.send(None)
        counted: dict[str, int] = self._pipe.recv()
        return counted


@contextmanager
def stub() -> Iterator[Stub]:
    """Run the server on a free port of the loopback address."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    process.start()
    port = here.recv()
    try:
        yield Stub(f"http://127.0.0.1:{port}", process.pid or 0, here)
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection) -> None:
    """Serve, and tell what was counted whenever asked."""
    counts = {"requests": 0, "records": 0, "bytes": 0}
    lock = threading.Lock()
    door = socket.create_server(("127.0.0.1", 0), backlog=128)
    threading.Thread(target=_accept, args=(door, counts, lock), daemon=True).start()
    pipe.send(door.getsockname()[1])
    with suppress(EOFError):
        while True:
            pipe.recv()
            with lock:
                pipe.send(counts)


def _accept(door: socket.socket, counts: dict[str, int], lock: Any) -> None:
    while True:
        connection, _ = door.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_converse, args=(connection, counts, lock), daemon=True).start()


def _converse(connection: socket.socket, counts: dict[str, int], lock: Any) -> None:
    """Answer the requests of one connection, one after the other."""
    with connection, suppress(OSError):
        received = b""
        while True:
            while (end := received.find(b"\r\n\r\n")) < 0:
                if not (more := connection.recv(1 << 20)):
                    return
                received += more
            head, length = received[:end], 0
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            parts, there = [received[end + 4 :]], len(received) - end - 4
            while there < length:
                if not (more := connection.recv(1 << 20)):
                    return
                parts.append(more)
                there += len(more)
            body = b"".join(parts)
            received, body = body[length:], body[:length]
            records = body.count(RECORD) if head.startswith(BULK) else 0
            with lock:
                counts["requests"] += 1
                counts["records"] += records
                counts["bytes"] += length
            target = b" ".join(head.split(b"?")[0].split(b" ")[:2])
            answer = BULK_SUCCESS % records if records else ANSWERS.get(target, SUCCESS)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (len(answer), answer)
            )
