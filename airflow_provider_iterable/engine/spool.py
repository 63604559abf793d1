"""Operations in a temporary file, so that totals are known before anything is sent."""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import IO

import msgspec

from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.vocabulary import Call, Entry, Handle, Operation

BLOCK = 64
"""Operations encoded together: fewer calls per operation, and still little to decode for a single one."""

_KINDS = tuple(Kind)
_KIND_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}


class _Line(msgspec.Struct, array_like=True, frozen=True, gc=False):
    kind: int
    call: int
    key: str
    body: bytes
    handles: tuple[Handle, ...]
    fingerprint: bytes | None
    ref: str
    before: str


class Spool:
    """An append-only file of operations; it is unlinked as soon as it is opened, so no crash leaves it behind.

    :param directory: where the file is made; ``None`` means the system's temporary directory
    """

    def __init__(self, directory: str | None = None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory, prefix="iterable-spool-")  # noqa: SIM115
        self._calls: list[Call] = []
        self._numbers: dict[Call | None, int] = {None: -1}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[_Line]).decode
        self._pending: list[Operation] = []
        self._firsts: list[int] = []
        """Position of the first operation of each block."""
        self._ends = [0]
        """Where each block ends in the file, after the 0 where the first begins."""
        self._block: tuple[int, list[_Line]] = (-1, [])
        self.size = 0
        """Operations written so far; also the position of the next one."""

    def append(self, operation: Operation) -> int:
        """Write one operation and return its position."""
        self._pending.append(operation)
        self.size += 1
        if len(self._pending) >= BLOCK:
            self._write()
        return self.size - 1

    def extend(self, operations: Sequence[Operation]) -> None:
        """Write many operations."""
        self.size += len(operations)
        self._pending.extend(operations)
        if len(self._pending) >= BLOCK:
            self._write()

    def read(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, Operation]]:
        """Yield ``(position, operation)`` from one position up to another."""
        self._write()
        end = self.size if end is None else end
        calls: list[Call | None] = [*self._calls, None]
        position = start
        while position < end:
            first, lines = self._block_of(position)
            for line in lines[position - first : end - first]:
                fingerprint = line.fingerprint
                yield (
                    position,
                    Operation(
                        line.key,
                        _KINDS[line.kind],
                        calls[line.call],
                        line.body,
                        line.handles,
                        None if fingerprint is None else Entry(fingerprint, line.ref),
                        "",
                        line.before,
                    ),
                )
                position += 1

    def at(self, position: int) -> Operation:
        """Return the operation at a position."""
        return next(self.read(position, position + 1))[1]

    def close(self) -> None:
        """Close the file, which frees its disk space."""
        self._file.close()

    def _write(self) -> None:
        first = self.size - len(self._pending)
        for start in range(0, len(self._pending), BLOCK):
            data = self._encode(list(map(self._line, self._pending[start : start + BLOCK])))
            self._file.seek(self._ends[-1])
            self._file.write(data)
            self._firsts.append(first + start)
            self._ends.append(self._ends[-1] + len(data))
        self._pending = []

    def _line(self, operation: Operation) -> _Line:
        number = self._numbers.get(operation.call)
        if number is None:
            number = self._number(operation.call)
        remember = operation.remember
        return _Line(
            _KIND_NUMBERS[operation.kind],
            number,
            operation.key,
            operation.body,
            operation.handles,
            None if remember is None else remember.fingerprint,
            "" if remember is None else remember.ref,
            operation.before,
        )

    def _block_of(self, position: int) -> tuple[int, list[_Line]]:
        """Return the block that holds a position: the position of its first line, and its lines."""
        block = bisect_right(self._firsts, position) - 1
        if self._block[0] != self._firsts[block]:
            self._file.seek(self._ends[block])
            data = self._file.read(self._ends[block + 1] - self._ends[block])
            self._block = (self._firsts[block], self._decode(data))
        return self._block

    def _number(self, call: Call | None) -> int:
        assert call is not None
        self._calls.append(call)
        return self._numbers.setdefault(call, len(self._calls) - 1)
