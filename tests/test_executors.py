from __future__ import annotations

import pytest

from tests.airflow_db import AIRFLOW
from tests.executors import experiment


@pytest.mark.slow
@pytest.mark.skipif(AIRFLOW < (3, 3), reason="Airflow of before 3.3 is started in another way")
def test_partitions_run_side_by_side_on_the_local_executor() -> None:
    """Each in a process of its own, four at once; Iterable, the state and the asset's events are as they should be."""
    at = experiment("local", rows=500, whole=False)
    assert at.failures == []
    assert at.outcomes[0].together > 1
