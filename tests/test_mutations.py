"""The mutants of ``tests/laws/mutations.py`` still mutate something; outside of ``laws``, where each of them runs."""

from __future__ import annotations

import pytest

from tests.laws.mutations import MUTATIONS, PACKAGE, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutant_differs_from_the_source_and_is_python(mutation: Mutation) -> None:
    """What it replaces occurs in its file as often as it must: moved code is not left without its mutant."""
    mutant = mutation.apply(ROOT / PACKAGE)
    assert mutant != (ROOT / PACKAGE / mutation.file).read_text("utf-8")
    compile(mutant, mutation.file, "exec", dont_inherit=True)


def test_mutants_have_names_of_their_own() -> None:
    """By which one is chosen on the command line."""
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
