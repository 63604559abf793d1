"""Operations in a temporary file, so that totals are known before anything is sent; knows bytes, not meanings."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from struct import Struct as Packing
from typing import IO

import msgspec

from airflow_provider_iterable.engine.vocabulary import Call, Entry, Handle, Kind, Operation

_SIZE = Packing("<I")
_READ_AHEAD = 1 << 20
_KINDS = tuple(Kind)


class _Line(msgspec.Struct, array_like=True, frozen=True, gc=False):
    kind: int
    call: int
    key: str
    body: bytes
    handles: tuple[Handle, ...]
    fingerprint: bytes | None
    ref: str


class Spool:
    """An append-only file of operations, gone from the directory as soon as it is opened.

    :param directory: where the file is made; ``None`` means the system's temporary directory
    """

    def __init__(self, directory: str | None = None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory, prefix="iterable-spool-")  # noqa: SIM115
        self._calls: list[Call] = []
        self._numbers: dict[Call, int] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(_Line).decode
        self._kind_numbers = {kind: number for number, kind in enumerate(_KINDS)}
        self._reading = False
        self.size = 0
        """Bytes written so far; also where the next operation will start."""

    def append(self, operation: Operation) -> int:
        """Write one operation and return where it starts."""
        remember = operation.remember
        data = self._encode(
            (
                self._kind_numbers[operation.kind],
                self._number(operation.call),
                operation.key,
                operation.body,
                operation.handles,
                None if remember is None else remember.fingerprint,
                "" if remember is None else remember.ref,
            )
        )
        start = self.size
        if self._reading:
            self._file.seek(start)
            self._reading = False
        self._file.write(_SIZE.pack(len(data)) + data)
        self.size += len(data) + _SIZE.size
        return start

    def read(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, Operation]]:
        """Yield ``(start, operation)`` from one position up to another."""
        end = self.size if end is None else end
        self._reading = True
        position, buffer, offset = start, b"", 0
        while position < end:
            if len(buffer) - offset < _SIZE.size:
                buffer, offset = self._more(buffer, offset, position), 0
            (length,) = _SIZE.unpack_from(buffer, offset)
            if len(buffer) - offset < length + _SIZE.size:
                buffer, offset = self._more(buffer, offset, position, length + _SIZE.size), 0
            first = offset + _SIZE.size
            operation = self._operation(self._decode(memoryview(buffer)[first : first + length]))
            yield position, operation
            offset = first + length
            position += length + _SIZE.size

    def at(self, start: int) -> Operation:
        """Return the operation that starts there."""
        self._reading = True
        self._file.seek(start)
        (length,) = _SIZE.unpack(self._file.read(_SIZE.size))
        return self._operation(self._decode(self._file.read(length)))

    def cut(self, end: int) -> None:
        """Drop everything from a position on."""
        self._file.truncate(end)
        self._file.seek(end)
        self.size = end

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def _more(self, buffer: bytes, offset: int, position: int, least: int = 0) -> bytes:
        rest = buffer[offset:]
        self._file.seek(position + len(rest))
        return rest + self._file.read(max(_READ_AHEAD, least))

    def _number(self, call: Call | None) -> int:
        if call is None:
            return -1
        number = self._numbers.get(call)
        if number is None:
            number = self._numbers[call] = len(self._calls)
            self._calls.append(call)
        return number

    def _operation(self, line: _Line) -> Operation:
        return Operation(
            key=line.key,
            kind=_KINDS[line.kind],
            call=None if line.call < 0 else self._calls[line.call],
            body=line.body,
            handles=line.handles,
            remember=None if line.fingerprint is None else Entry(line.fingerprint, line.ref),
        )
