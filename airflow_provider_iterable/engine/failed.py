"""A request to which no usable answer came: what is said of it, without identifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_iterable.engine.vocabulary import Call, Reply

UNREACHABLE: Mapping[str, str] = {
    "NameResolutionError": "the host's name does not resolve",
    "ConnectionError": "nothing listens there, its name does not resolve, or a firewall is in the way",
    "ConnectTimeout": "connecting took too long; a firewall may be in the way",
    "SSLError": "the encrypted connection failed; check the certificate, or whether the host speaks https at all",
    "ProxyError": "the proxy named in the worker's environment refused or failed",
}
"""Why there is no connection, by what the client calls the error."""
NO_CONNECTION = UNREACHABLE.keys() - {"ConnectionError"}
"""Those that say so whatever was sent; a connection may also break in the midst of a request."""
RATE_LIMITED = 429


@dataclass(frozen=True)
class Failure:
    """The last try of a batch that got no usable answer.

    :param call: which endpoint
    :param reply: what came back
    :param tries: how often it was sent
    """

    call: Call
    reply: Reply
    tries: int

    def sentence(self, host: str) -> str:
        """Return what failed, where and how."""
        request, reply = f"{self.call.method} {self.call.template}", self.reply
        tried = "1 try" if self.tries == 1 else f"{self.tries} tries"
        if reply.status == RATE_LIMITED:
            return f"{host} limits the rate of {request}: HTTP {reply.status} ({tried})."
        if reply.status:
            return f"{host} gave no usable answer to {request}: HTTP {reply.status} ({tried})."
        if not reply.sent or reply.error in NO_CONNECTION:
            why = UNREACHABLE.get(reply.error)
            return f"{host} could not be reached: {reply.error} ({f'{why}; ' if why else ''}{request}, {tried})."
        return f"{host} did not answer {request}: {reply.error} ({tried})."
