"""Where domain controllers are, as DNS says."""

import socket

from casarray.core.errors import Unavailable


class ConnectionLost(Unavailable):
    """The domain controller cannot be reached, or does not answer in time: another one may."""


class Names:
    """What DNS says of domain controllers."""

    def controllers(self, domain: str, seconds: float) -> list[str]:
        """The host names of a domain's controllers, best first; empty if it is no domain, or nobody knows."""
        try:
            import dns.exception  # noqa: PLC0415 - half a second, and only where a domain is named
            import dns.resolver  # noqa: PLC0415 - half a second to load
        except ImportError:
            return []

        try:
            answer = dns.resolver.resolve(f"_ldap._tcp.dc._msdcs.{domain}.", "SRV", lifetime=seconds)
        except (dns.exception.DNSException, OSError):
            return []
        records = sorted(answer, key=lambda record: (record.priority, -record.weight))
        return [str(record.target).rstrip(".") for record in records]

    def addresses(self, host: str) -> list[str]:
        """The addresses of a host, in the order in which to try them."""
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ConnectionLost(f"the name {host} is not known: {error}") from error
        return list(dict.fromkeys(str(answer[4][0]) for answer in found))
