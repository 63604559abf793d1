"""How many requests a plan takes, and how long they take."""

from __future__ import annotations

import math

from airflow_provider_iterable.engine.plan import Plan


def forecast(plan: Plan, batch_size: int) -> list[str]:
    """Say how many requests the plan takes, and how long at Iterable's documented rates."""
    lines = []
    for call, operations in plan.calls.items():
        if operations:
            requests = math.ceil(operations / min(batch_size, call.max_items))
            minutes = requests / call.rate / 60 if call.rate else 0.0
            lines.append(
                f"{operations} rows through {call.method} {call.template}: about {requests} requests, "
                f"{minutes:.1f} minutes at Iterable's rate limit."
            )
    return lines or ["Nothing to send."]
