"""Breaks the engine on purpose, one way at a time, and tells which law notices: ``python -m tests.laws.mutations``.

Every mutant is a temporary copy of the package and the tests with one piece of source replaced. A mutant that no law
kills, or a piece of source that is no longer there, makes the script fail.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_iterable"
FAILED = re.compile(r"^(?:FAILED|ERROR) tests/laws/(\S+)", re.MULTILINE)


class Mutation(NamedTuple):
    """One way to break the engine: in ``file``, ``old`` becomes ``new``, as many ``times`` as it occurs there."""

    name: str
    file: str
    old: str
    new: str
    times: int = 1

    def apply(self, package: Path) -> str:
        """Return the source of the file as it becomes in a copy of the package.

        :raises LookupError: what is to be replaced is not there, or not as often as it must
        """
        source = (package / self.file).read_text("utf-8")
        if source.count(self.old) != self.times:
            raise LookupError(f"{self.name}: {self.file} has {self.old!r} {source.count(self.old)} times")
        return source.replace(self.old, self.new)


MUTATIONS = (
    Mutation(
        "rejected outcomes are committed",
        "engine/pending.py",
        "            if outcome.fate is Fate.ACCEPTED:\n",
        "            if outcome.fate in (Fate.ACCEPTED, Fate.REJECTED):\n",
    ),
    Mutation(
        "skipped outcomes are committed",
        "engine/pending.py",
        "            if outcome.fate is Fate.ACCEPTED:\n",
        "            if outcome.fate in (Fate.ACCEPTED, Fate.SKIPPED):\n",
    ),
    Mutation(
        "deferred operations are remembered",
        "engine/pending.py",
        "            self.refuse(operation, reason, detail, Fate.DEFERRED)",
        "            self.refuse(operation, reason, detail, Fate.DEFERRED)\n"
        "            self.patch[operation.key] = operation.remember",
    ),
    Mutation(
        "a refused batch counts as accepted",
        "engine/settle.py",
        "            case Split() as split:\n                self._split(parcel, split)",
        "            case Split() as split:\n                for operation in batch.operations:\n"
        "                    pending.patch[operation.key] = operation.remember",
    ),
    Mutation(
        "an unanswered batch counts as accepted",
        "engine/settle.py",
        "            if call.repeatable or not parcel.doubtful:\n                pending.give_up(parcel, reason)",
        "            if not call.repeatable:\n                pending.give_up(parcel, reason)",
    ),
    Mutation(
        "half of a split batch is dropped",
        "engine/settle.py",
        "for part in (suspects, rest) if part]",
        "for part in (suspects,) if part]",
    ),
    Mutation(
        "what is packed is committed before it is sent",
        "engine/deliver.py",
        "        if queue.pack(operation, call):\n",
        "        pending._commit({operation.key: operation.remember})\n        if queue.pack(operation, call):\n",
    ),
    Mutation(
        "a patch is dropped instead of committed",
        "engine/pending.py",
        "            self._commit(self.patch, Intents(",
        "            self._commit({}, Intents(",
    ),
    Mutation(
        "a killed run commits what was in flight",
        "engine/deliver.py",
        "        self._abandon_flying()\n        queue.over()\n",
        "        for parcel in queue.flying:\n"
        "            self._pending.patch.update({op.key: op.remember for op in parcel.batch.operations})\n"
        "        queue.over()\n",
    ),
    Mutation(
        "what was not answered leaves its entry as it was",
        "engine/pending.py",
        "            self.patch.update(left)\n",
        "",
    ),
    Mutation(
        "a request is sent before its doubts are stored",
        "engine/deliver.py",
        "            queue.take_off(parcel)\n            self._workers.give(parcel)\n",
        "            queue.take_off(parcel)\n            self._workers.give(parcel)\n"
        "            pending.ended.update(pending.announced)\n            self._commit()\n",
    ),
    Mutation(
        "what is announced is not stored",
        "engine/pending.py",
        "Intents(self.begun, self.ended, self.accepted))",
        "Intents({}, (), self.accepted))",
    ),
    Mutation(
        "an answered try makes up for one that was lost",
        "engine/settle.py",
        "parcel.doubtful = parcel.doubtful or attempted.unanswered",
        "parcel.doubtful = isinstance(attempted.verdict, Again) and attempted.unanswered",
    ),
    Mutation(
        "a new row leaves no doubt",
        "engine/doubt.py",
        "            if receipts and all(map(_REMEMBER, operations)):\n",
        "            if all(one.kind is Kind.ADDED for one in operations):\n                return []\n"
        "            if receipts and all(map(_REMEMBER, operations)):\n",
    ),
    Mutation(
        "a removal leaves no doubt",
        "engine/doubt.py",
        '            if remember is None:\n                left.append((operation.key, _NEVER_EQUAL, before, ""))\n',
        "            if remember is None:\n                pass\n",
    ),
    Mutation(
        "rows that may be overwritten are not in doubt",
        "engine/shared.py",
        "                due[key] = Entry(NEVER_EQUAL, entry.ref)\n",
        "                pass\n",
    ),
    Mutation(
        "an identity may be twice in a batch",
        "engine/pack.py",
        " or identity in batch.identities):",
        "):",
    ),
    Mutation(
        "the bytes of a batch are not limited",
        "engine/pack.py",
        " or batch.bytes < size or",
        " or",
    ),
    Mutation(
        "the envelope is not counted",
        "engine/pack.py",
        "call.max_bytes - call.envelope",
        "call.max_bytes",
        times=2,
    ),
    Mutation(
        "the last batch is forgotten",
        "engine/pack.py",
        "            if batch.operations:\n",
        "            if len(batch.operations) > 1:\n",
    ),
    Mutation(
        "batch_size is ignored",
        "engine/pack.py",
        "min(self._size, call.max_items)",
        "call.max_items",
        times=2,
    ),
    Mutation(
        "rows that share an identity go in one wave",
        "engine/pack.py",
        "if plan.is_shared(operation):",
        "if False:",
    ),
    Mutation(
        "rows that share an identity go in row order",
        "engine/pack.py",
        "    crowd.sort()\n",
        "    crowd.sort(key=lambda one: one[0])\n",
    ),
    Mutation(
        "rows that share an identity go greatest key first",
        "engine/pack.py",
        "    return ranks\n",
        "    return ranks[::-1]\n",
    ),
    Mutation(
        "unchanged rows are not sent again",
        "engine/run.py",
        "    if identities or planner.needs_second_reading:\n",
        "    if False:\n",
    ),
    Mutation(
        "memories that others overwrite are trusted",
        "engine/remember.py",
        "    if plan.doubted:\n",
        "    if False:\n",
    ),
    Mutation(
        "memories of invalid rows are trusted",
        "engine/overwritten.py",
        "keys = {outcome.key for outcome in plan.invalid if outcome.key}",
        "keys: set[str] = set()",
    ),
    Mutation(
        "duplicate keys make their namesakes go again",
        "engine/plan.py",
        "        identities.sent = sent\n",
        "",
    ),
    Mutation(
        "only the first row of a duplicate key bears an identity",
        "engine/plan.py",
        "return bool(self.identities.left and self.plan.duplicates)",
        "return False",
    ),
    Mutation(
        "the first row of a duplicate key is sent",
        "engine/plan.py",
        "if operation.key not in self.duplicates and position",
        "if position",
    ),
    Mutation(
        "the first row of a duplicate key is counted twice",
        "engine/plan.py",
        "        plan.unchanged -= len(plan.duplicates - planned)\n",
        "",
    ),
    Mutation(
        "removals of borne identities are called",
        "engine/plan.py",
        "bears = operation.call is not None and hash(operation.handles[0]) in self.borne",
        "bears = False",
    ),
    Mutation(
        "a row that left is forgotten although the one that bears its identity was not accepted",
        "engine/plan.py",
        "            if hash(operation.handles[0]) in self.borne_and_accepted:\n",
        "            if True:\n",
    ),
    Mutation(
        "two removals of one record do not doubt each other",
        "engine/overwritten.py",
        "plan.borne | identities.removed_twice:",
        "plan.borne:",
    ),
    Mutation(
        "invalid rows bear no identity",
        "engine/plan.py",
        "        self.identities.refused.extend(hash(handle) for handle in item.handles[:1])\n\n",
        "\n",
    ),
    Mutation(
        "a moved identity is not noticed",
        "engine/plan.py",
        "            if before != hash(change.after.handles[0]):\n",
        "            if False:\n",
    ),
    Mutation(
        "memories that another row is to overwrite do not wait",
        "engine/shared.py",
        "                if operation.call.repeatable:\n",
        "                if False:\n",
    ),
    Mutation(
        "memories are let go although the last word may have arrived",
        "engine/shared.py",
        "        if outcome.fate is Fate.DEFERRED:\n",
        "        if False:\n",
    ),
    Mutation(
        "an invalid row counts as removed",
        "state/pairing.py",
        "        known.update(zip(packed, repeat(_SEEN)))\n",
        "        known.update((k, _SEEN) for k, f in zip(packed, sync.records(keys, rows).fingerprints)\n"
        "                     if not isinstance(f, Invalid))\n",
    ),
    Mutation(
        "rows that left are not noticed",
        "state/pairing.py",
        "        if fingerprint is not _SEEN:\n",
        "        if False:\n",
    ),
    Mutation(
        "changes are not noticed",
        "engine/compare.py",
        "        if before == after:\n",
        "        if before == after or before is not None:\n",
    ),
    Mutation(
        "everything counts as changed",
        "engine/compare.py",
        "    if goes_again is None and pair.before == records.fingerprints:\n",
        "    pair = Present(pair.keys, pair.rows, [before and b'?' for before in pair.before])\n"
        "    if not pair.keys:\n",
    ),
    Mutation(
        "what an undo needs is not recalled",
        "engine/compare.py",
        '        entry = found.get(_key(item), Entry(item.before.fingerprint, ""))',
        '        entry = Entry(item.before.fingerprint, \'["email","somebody@x.io"]\')',
    ),
    Mutation(
        "a dry run is none",
        "engine/run.py",
        "        if options.dry_run:\n",
        "        if False:\n",
    ),
    Mutation(
        "the plan hash depends on the row order",
        "engine/plan_hash.py",
        '        total += int.from_bytes(_operation_digest(operation), "big")',
        '        total = total * 3 + int.from_bytes(_operation_digest(operation), "big")',
    ),
    Mutation(
        "the forecast ignores batch_size",
        "engine/forecast.py",
        "math.ceil(operations / min(batch_size, call.max_items))",
        "math.ceil(operations / call.max_items)",
    ),
    Mutation(
        "emails are not folded",
        "api/values.py",
        "text = value.strip().lower()",
        "text = value.strip()",
    ),
    Mutation(
        "blame need not add up to failCount",
        "api/blame.py",
        "    if adds_up(len(batch.operations), body, blamed):\n",
        "    if True:\n",
    ),
    Mutation(
        "a conflict blames whoever bears the identifier",
        "api/blame.py",
        "        if meaning[0] is Reason.CONFLICT and len(operations) > 1:\n",
        "        if not operations:\n",
    ),
    Mutation(
        "successCount is not looked at",
        "api/blame.py",
        "    return explained and size - failures <= successes and reported <= size\n",
        "    return explained\n",
    ),
    Mutation(
        "blame is not looked at",
        "api/blame.py",
        "    named = list(blamed_by(body, meanings))\n",
        "    named: list[tuple[str, str, Meaning]] = []\n",
    ),
    Mutation(
        "a 200 is success whatever its body",
        "api/verdicts.py",
        "        return Again(Reason.NO_ANSWER)\n    return counted(batch, body)",
        "        return Settled()\n    return counted(batch, body)",
    ),
    Mutation(
        "a deletion's 200 is success whatever its body",
        "api/answers.py",
        'and "msg" in body and body["code"] in codes',
        "",
    ),
    Mutation(
        "a 404 in JSON says that somebody is gone",
        "api/verdicts.py",
        "    return reply.status in (400, 404, 409) and (names_nobody(reply) or names_forgotten(reply))\n",
        "    return reply.status == 404 or names_nobody(reply) or names_forgotten(reply)\n",
    ),
    Mutation(
        "a lost answer is success",
        "api/refusals.py",
        "    if status in (0, 408) or",
        "    if status == 0:\n        return Settled()\n    if status == 408 or",
    ),
    Mutation(
        "endless nesting is not expected",
        "api/answers.py",
        "UnicodeDecodeError, RecursionError):",
        "UnicodeDecodeError):",
    ),
    Mutation(
        "innocents are blamed for a type mismatch",
        "api/refusals.py",
        "                if confirmed and not fits(value, expected):\n",
        "                if confirmed:\n",
    ),
    Mutation(
        "a sync that creates removes whom it found",
        "syncs/new_users.py",
        "        if is_made(change.before.ref) and change.before.fingerprint",
        "        if change.before.fingerprint",
    ),
    Mutation(
        "a profile gets what it has",
        "syncs/only_if_empty.py",
        "        if not had:\n",
        "        if True:\n",
    ),
)


def copy(to: Path) -> None:
    """Copy what the laws need."""
    ignore = shutil.ignore_patterns("__pycache__", ".hypothesis")
    shutil.copytree(ROOT / PACKAGE, to / PACKAGE, ignore=ignore)
    for name in ("laws", "airflow_db.py", "fakes.py", "histories.py", "conftest.py"):
        source = ROOT / "tests" / name
        (to / "tests").mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, to / "tests" / name, ignore=ignore)
        else:
            shutil.copy(source, to / "tests" / name)
    shutil.copy(ROOT / "pyproject.toml", to)


def killers(mutation: Mutation | None) -> tuple[list[str], float]:
    """Return the laws that fail under a mutation, and the seconds it took.

    :raises LookupError: the source to be mutated is not there, or not as often as it must
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        place = Path(directory)
        copy(place)
        if mutation is not None:
            (place / PACKAGE / mutation.file).write_text(mutation.apply(place / PACKAGE), "utf-8")
        started = time.monotonic()
        environment = {**os.environ, "ITERABLE_TEST_MUTANT": "1", "PYTHONPATH": directory, "PYTHONHASHSEED": "0"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "tests/laws",
                "-q",
                "--tb=no",
                "--show-capture=no",
                "--maxfail=2",
                "-p",
                "no:cacheprovider",
            ],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{mutation}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        names = {name.split("[")[0].split(" ")[0] for name in FAILED.findall(done.stdout)}
        return sorted(names), time.monotonic() - started


def main() -> int:
    """Try all mutations, or those whose names hold an argument; print who killed which."""
    wanted = sys.argv[1:]
    chosen = [one for one in MUTATIONS if not wanted or any(word in one.name for word in wanted)]
    found, seconds = killers(None)
    if found:
        print("The laws fail without any mutation: " + ", ".join(found))
        return 2
    print(
        f"Without a mutation the laws hold ({seconds:.0f} s).\n\n| mutation | file | killed by |\n| --- | --- | --- |"
    )
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for mutation, (names, _) in zip(chosen, pool.map(killers, chosen), strict=True):
            survivors += not names
            laws = ", ".join(f"`{name.partition('::')[2]}`" for name in names) or "**nobody**"
            print(f"| {mutation.name} | {mutation.file} | {laws} |", flush=True)
    print(f"\n{len(chosen) - survivors} of {len(chosen)} mutants killed.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
