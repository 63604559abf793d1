"""Reads a request body from a connection, and gives up when that takes too long."""

import re
import socket
import time
from io import BufferedIOBase

LARGEST_BODY = 100_000_000
_PIECE = 1 << 20
_LONGEST_LINE = 1000
_MOST_TRAILERS = 100
_LENGTH = re.compile(r"[0-9]+", re.ASCII)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[^\r\n]*)?")


class UnreadableError(Exception):
    """A body that does not match its headers, or comes too late; `status` is that of the answer."""

    def __init__(self, status: int) -> None:
        """Keep the status."""
        super().__init__(status)
        self.status = status


class Receiver:
    """Reads one body from a connection, for so many seconds at most, and nothing behind it."""

    def __init__(self, connection: socket.socket, file: BufferedIOBase, seconds: float) -> None:
        """Take the connection and the file that reads from it; time starts now."""
        self._connection = connection
        self._file = file
        self._end = time.monotonic() + seconds

    def body(self, coding: str, length: str) -> bytes:
        """Return the body of a Transfer-Encoding (empty: none) and a Content-Length, or raise UnreadableError."""
        try:
            if coding.strip().lower() == "chunked":
                return self._chunks()
            if coding:
                raise UnreadableError(501)
            if not _LENGTH.fullmatch(length.strip()):
                raise UnreadableError(400)
            return self._exactly(_bounded(length.strip(), 10))
        finally:
            self._connection.settimeout(None)

    def _chunks(self) -> bytes:
        body = bytearray()
        while size := self._chunk_size():
            if len(body) + size > LARGEST_BODY:
                raise UnreadableError(413)
            body += self._exactly(size)
            if self._line():
                raise UnreadableError(400)
        for _ in range(_MOST_TRAILERS):
            if not self._line():
                return bytes(body)
        raise UnreadableError(431)

    def _chunk_size(self) -> int:
        found = _CHUNK.fullmatch(self._line())
        if found is None:
            raise UnreadableError(400)
        return _bounded(found[1], 16)

    def _exactly(self, size: int) -> bytes:
        pieces = []
        while size:
            pieces.append(self._some(min(size, _PIECE)))
            size -= len(pieces[-1])
        return b"".join(pieces)

    def _line(self) -> bytes:
        """Return a line without its end."""
        line = bytearray()
        while not line.endswith(b"\n"):
            if len(line) > _LONGEST_LINE:
                raise UnreadableError(431)
            line += self._some(1)
        return bytes(line).rstrip(b"\r\n")

    def _some(self, size: int) -> bytes:
        """Return the bytes that have arrived, at least one; raise when the connection ends."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise UnreadableError(408)
        self._connection.settimeout(left)
        try:
            piece: bytes = self._file.read1(size)
        except TimeoutError:
            raise UnreadableError(408) from None
        if not piece:
            raise UnreadableError(400)
        return piece


def _bounded(digits: str | bytes, base: int) -> int:
    """Return a size, unless it is larger than any body."""
    if len(digits) > 20 or (size := int(digits, base)) > LARGEST_BODY:
        raise UnreadableError(413)
    return size
