"""The way to a host: proxies and certificates of the environment, connections, answers as they arrive."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, exceptions
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)
from urllib3.util import Retry

from airflow_provider_iterable.api.deadlines import POOLS
from airflow_provider_iterable.errors import ConfigurationError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse  # not there in urllib3 1

LARGEST_ANSWER = 50_000_000
"""Bytes; nothing that Iterable is asked here takes a hundredth of it."""
CHUNK = 65_536


class AnswerTooLarge(OSError):
    """An answer is larger than ``LARGEST_ANSWER``."""


UNANSWERED = (HTTPError, OSError)
"""What is raised where no answer comes, or none that can be read."""
_NAMES: Mapping[type[Exception], str] = {
    **({exceptions.NameResolutionError: "NameResolutionError"} if hasattr(exceptions, "NameResolutionError") else {}),
    NewConnectionError: "ConnectionError",  # before the next, for in urllib3 1 it is a ConnectTimeoutError
    ConnectTimeoutError: "ConnectTimeout",
    ReadTimeoutError: "ReadTimeout",
    ProtocolError: "ConnectionError",
    DecodeError: "ContentDecodingError",
}
"""What errors are called in reports, logs and the audit: as requests calls them; a name that does not resolve, as
urllib3 2 does."""
ONCE = Retry(False)
"""No retries, and the error itself."""


class Adapter(HTTPAdapter):
    """An adapter whose requests can be hung up on."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make connections whose sockets are known."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Make those that lead through a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def pool(self, url: str, proxies: Mapping[str, str], verify: Any) -> tuple[HTTPConnectionPool, str]:
        """Return the connections that lead to a URL, and what paths begin with there.

        :raises requests.RequestException: the proxy's address is no URL
        :raises OSError: the file of certificates is not there
        """
        prepared, known = requests.Request("GET", url).prepare(), dict(proxies)
        pool: Any = self.get_connection_with_tls_context(prepared, verify, known)
        self.cert_verify(pool, url, verify, None)  # type: ignore[no-untyped-call]  # types-requests has none for it
        whole = self.request_url(prepared, known).startswith("http")  # a proxy that reads what goes by
        return pool, url if whole else urlsplit(url).path


def read(response: BaseHTTPResponse) -> bytes:
    """Read an answer of up to ``LARGEST_ANSWER`` bytes, and give its connection back."""
    parts, size = [], 0
    try:
        for part in response.stream(CHUNK, decode_content=True):
            size += len(part)
            if size > LARGEST_ANSWER:
                raise AnswerTooLarge
            parts.append(part)
    except BaseException:
        response.close()
        raise
    finally:
        response.release_conn()
    return b"".join(parts)


def name_of(error: Exception | None) -> str:
    """Return what an error is called; its words hold URLs, and URLs hold email addresses."""
    return next((name for kind, name in _NAMES.items() if isinstance(error, kind)), type(error).__name__)


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine, by its name or address alone; nothing is looked up."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def connections(adapter: Adapter, base_url: str) -> tuple[HTTPConnectionPool, str]:
    """Return the connections to a host, through the environment's proxy and with its certificates."""
    settings = requests.Session().merge_environment_settings(base_url, {}, None, None, None)
    proxies = {} if is_loopback(base_url) else settings["proxies"]
    try:
        return adapter.pool(base_url, proxies, settings["verify"])
    except (requests.RequestException, exceptions.HTTPError, OSError) as error:
        raise ConfigurationError(
            f"{urlsplit(base_url).netloc} cannot be reached ({type(error).__name__}): check the proxy that the "
            "environment names (HTTPS_PROXY) and its file of certificates (REQUESTS_CA_BUNDLE)."
        ) from None


def never_connected(error: Exception) -> bool:
    """Whether a request failed before there was a connection it could have left by."""
    return isinstance(error, (NewConnectionError, ConnectTimeoutError))


class HostFilter(logging.Filter):
    """Drops what a logger says about some hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record names none of the hosts."""
        message = record.getMessage()
        return not any(host in message for host in self.hosts)


_host_filter = HostFilter()


def silence_urllib3(base_url: str) -> None:
    """Keep urllib3 from writing about a host: at DEBUG, and with unreadable headers, it writes whole URLs."""
    _host_filter.hosts.add(urlsplit(base_url).hostname or "")
    logging.getLogger("urllib3.connectionpool").addFilter(_host_filter)
