"""Finds the operation in a batch for which the server returns an error, by halving the batch; sends nothing."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_iterable.engine.vocabulary import Operation


class Search:
    """A binary search for the operation for which the server returns an error.

    The operations that were ruled out are sent together at the end: finding one among ``n`` costs ``log2(n)`` requests,
    one for it alone and one for all the others. No operation is rejected unless the server failed at it alone.

    :param operations: a batch that the server failed at
    :param intent: the number under which the state knows the batch, until the search is over
    :param answers: how often the endpoint had answered when the search began, which whoever sends keeps up to date
    """

    def __init__(self, operations: Sequence[Operation], intent: int | None, answers: int) -> None:
        self._operations, self.intent, self.answers = operations, intent, answers
        self._asked: list[int] = []
        self._others: list[int] = []
        """Where the culprit is, if the server does not fail at those that are asked about."""
        self._aside: list[int] = []
        self.afresh = False
        """Whether all that is left is asked about, and it is not known to hold a culprit."""
        self._turn(list(range(len(operations))))

    @property
    def asked(self) -> list[Operation]:
        """What is to be sent next; nothing when the search is over."""
        return [self._operations[number] for number in self._asked]

    @property
    def rest(self) -> list[Operation]:
        """What is not settled besides."""
        return [self._operations[number] for number in sorted(self._others + self._aside)]

    def answered(self) -> None:
        """Those that were asked about are settled."""
        self._turn(self._others)

    def failed(self) -> Operation | None:
        """The server failed at those that were asked about; return the culprit if it was alone."""
        asked = self._asked
        self._aside += self._others
        if len(asked) > 1:
            self._turn(asked)
            return None
        self._turn([])
        return self._operations[asked[0]]

    def _turn(self, suspects: list[int]) -> None:
        self.afresh = not suspects
        if suspects:
            half = (len(suspects) + 1) // 2
            self._asked, self._others = suspects[:half], suspects[half:]
        else:
            self._asked, self._others, self._aside = sorted(self._aside), [], []
