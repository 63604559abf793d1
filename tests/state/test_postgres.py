"""What is Postgres' own: cursors and encodings of the connection, poolers, and how rows are counted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.api.client import CallLog
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Entry
from airflow_provider_iterable.errors import ConfigurationError, StateUnavailable
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state import table as table_module
from airflow_provider_iterable.state.audit import Audit
from airflow_provider_iterable.state.audit_tables import AuditTables
from airflow_provider_iterable.state.dialects import DIALECTS
from airflow_provider_iterable.state.ledger import Ledger
from airflow_provider_iterable.state.lease import Lease
from airflow_provider_iterable.state.scope import Holder, Scope
from airflow_provider_iterable.state.table import TableSession
from tests.services import pooler, postgres_uri
from tests.state.contract import HERE, MAPPING, NASTY, drain, entry, fresh, keep, kept, key_of
from tests.state.test_table import Tables, Time, execute, postgres_hook, postgres_tables, tables, time  # noqa: F401

DRIVERS = ["", "psycopg2"]
