from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.spool import BLOCK, Spool
from airflow_provider_iterable.engine.vocabulary import Entry, Operation
from tests.fakes import a_call, a_spool, an_operation

CALL, OTHER = a_call(), a_call()
OPERATIONS = [
    an_operation("1", CALL),
    Operation("2", Kind.CHANGED, OTHER, b"\x00\xff" * 9, (("email", "ä@x.io"), ("user_id", "7")), Entry(b"\x00f", "r")),
    Operation("3", Kind.REMOVED, None, b"", (), None),
    an_operation("4", CALL, body=b"x" * 3_000_000),
]


def people(number: int) -> list[Operation]:
    """Return so many operations."""
    return [an_operation(str(n), CALL) for n in range(number)]


def spooled(operations: list[Operation] = OPERATIONS) -> tuple[Spool, list[int]]:
    """Return a spool with operations and where they start."""
    spool = a_spool()
    return spool, [spool.append(operation) for operation in operations]


def test_operations_come_back_as_they_went_in() -> None:
    """Kind, call, body, handles and memory survive, whatever the size of the body."""
    spool, starts = spooled()
    assert list(zip(starts, OPERATIONS, strict=True)) == list(spool.read())


def test_one_operation_is_found_by_its_start() -> None:
    """A start is an address."""
    spool, starts = spooled()
    assert OPERATIONS[::-1] == [spool.at(start) for start in reversed(starts)]


def test_a_part_can_be_read() -> None:
    """Reading begins and ends where it is told."""
    spool, starts = spooled()
    assert OPERATIONS[1:3] == [operation for _, operation in spool.read(starts[1], starts[3])]


def test_writing_goes_on_after_reading() -> None:
    """Reading does not move the end."""
    spool, _ = spooled()
    assert len(OPERATIONS) == len(list(spool.read()))
    spool.at(0)
    spool.append(an_operation("5", OTHER))
    assert [*OPERATIONS, an_operation("5", OTHER)] == [operation for _, operation in spool.read()]


def test_many_are_written_at_once() -> None:
    """As one by one, before and after others, whatever their number."""
    some = people(2 * BLOCK + 7)
    spool, _ = spooled()
    spool.extend(some)
    spool.extend([])
    assert spool.append(an_operation("last", CALL)) == len(OPERATIONS) + len(some)
    expected = [*OPERATIONS, *some, an_operation("last", CALL)]
    assert list(enumerate(expected)) == list(spool.read())
    assert [(operation, operation) for operation in expected] == [
        (operation, spool.at(position)) for position, operation in enumerate(expected)
    ]


def test_reading_while_jumping_keeps_its_place() -> None:
    """Two readers of one spool do not disturb each other."""
    operations = people(3 * BLOCK)
    spool, _ = spooled(operations)
    assert [(one, one) for one in operations] == [(operation, spool.at(start)) for start, operation in spool.read()]
    assert [(both, both) for both in spool.read()] == list(zip(spool.read(), spool.read(), strict=True))


def test_an_empty_spool_has_nothing() -> None:
    """Nothing went in, nothing comes out."""
    assert [] == list(a_spool().read())


def test_the_file_has_no_name_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """Profiles on disk cannot be opened by others, and are gone when the worker is."""
    spool = a_spool(str(tmp_path))
    spool.append(an_operation("1", CALL))
    assert [] == list(tmp_path.iterdir())
    assert 0o600 == stat.S_IMODE(os.fstat(spool._file.fileno()).st_mode)


def test_the_file_is_in_the_directory_that_was_asked_for(tmp_path: Path) -> None:
    """A file without a name shows in no directory, but one that is not there cannot have it."""
    with pytest.raises(FileNotFoundError):
        Spool(str(tmp_path / "nowhere"))
