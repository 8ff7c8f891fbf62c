"""The one way out: HTTP calls to addresses that somebody else chose.

- An address is resolved once, checked, and connected to as it was checked: a name that means something else a moment
  later changes nothing.
- Private, loopback, link-local, multicast and reserved addresses are refused, in their IPv6 forms too, unless the
  operator allows their network, or named the host themselves.
- A call that is made for a traced request says so: it carries `traceparent`.
- Redirects are not followed, and of the answer no more is read than was asked for.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from discern.core.errors import MalformedRequest
from discern.core.tracing import PARENT_HEADER, current_trace, piece

_SECONDS = 10.0
_SECONDS_IN_ALL = 20.0
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_PORTS = {"http": 80, "https": 443}
# Addresses that stand for IPv4 ones: NAT64 (RFC 6052), 6to4 (RFC 3056).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# What the Internet's global unicast addresses are among; the rest of IPv6 is reserved (IANA, RFC 4291).
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Reserved, and not so in the table of every Python: documentation (RFC 9637), and the old anycast of 6to4 (RFC 7526).
_RESERVED: tuple[Network, ...] = (ipaddress.IPv6Network("3fff::/20"), ipaddress.IPv4Network("192.88.99.0/24"))


ANYWHERE = "0.0.0.0/0, ::/0"
"""The networks to allow where the operator's own settings, and nobody else, say whom to call."""


class AddressRefused(MalformedRequest):
    """The address is not one that is called from here."""


def networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a list with commas, such as `10.1.0.0/16, ::1`. Raises ValueError."""
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def check_url(url: str) -> None:
    """Raise AddressRefused for what is no URL of HTTP, or carries a password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _PORTS and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or any(character <= " " for character in url):
        raise AddressRefused(f"{url[:200]!r} is not an http or https URL.", mend="Write https://host/path.")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("The URL carries a user name or password.", mend="Leave it out; calls are signed.")


class Outbound:
    """Calls out. `allowed` networks and `named` hosts are called although they are private.

    `authorities` is a file (PEM) of those that certificates are to be of; without it, those of the system.
    """

    def __init__(
        self, allowed: Sequence[Network] = (), named: Collection[str] = (), authorities: str | None = None
    ) -> None:
        self._allowed = allowed
        self._named = named
        self._authorities = authorities

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send a POST, and return the status of the answer. Raises AddressRefused or OSError."""
        return self.fetch("POST", url, body, headers, most_bytes=0)[0]

    def fetch(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], *, most_bytes: int
    ) -> tuple[int, bytes]:
        """Return the status of an answer and its body, unless that has more than `most_bytes`; 0 leaves it unread.

        Raises AddressRefused or OSError.
        """
        check_url(url)
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        context = ssl.create_default_context(cafile=self._authorities) if parts.scheme == "https" else None
        connection = _Connection(host, port, self._checked(host, port), context)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # The time limit of a socket is one of each read; who answers a byte now and then would never reach it.
        deadline = threading.Timer(_SECONDS_IN_ALL, connection.cut)
        deadline.daemon = True
        deadline.start()
        trace = current_trace()
        whole = {"Host": parts.netloc, **({} if trace is None else {PARENT_HEADER: trace.header}), **headers}
        try:
            with piece("call out"):
                connection.request(method, path, body, whole)
                answer = connection.getresponse()
                content = answer.read(most_bytes + 1) if most_bytes else b""
        except http.client.HTTPException as error:
            raise ConnectionError(f"the answer was not HTTP: {type(error).__name__}") from error
        finally:
            deadline.cancel()
            connection.close()
        if len(content) > most_bytes:
            raise ConnectionError(f"the answer has more than {most_bytes} bytes")
        return answer.status, content

    def _checked(self, host: str, port: int) -> str:
        try:
            found = [entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except UnicodeError as error:
            raise AddressRefused(f"{host[:200]!r} cannot be the name of a host.", mend="Write another.") from error
        for text in found:
            address = ipaddress.ip_address(str(text).partition("%")[0])
            if host not in self._named and not self.is_allowed(address):
                raise _not_public(host, address)
        return str(found[0])

    def check(self, url: str) -> None:
        """Raise AddressRefused for what will be refused when it is called, as far as can be told without asking."""
        check_url(url)
        try:
            address = ipaddress.ip_address(urlsplit(url).hostname or "")
        except ValueError:
            return
        if not self.is_allowed(address):
            raise _not_public(str(address), address)

    def check_host(self, host: str) -> None:
        """Raise AddressRefused where a name means, at this moment, an address that is not called from here.

        A name that means nothing passes: whoever calls it will notice.
        """
        try:
            self._checked(host.strip("[]"), 0)
        except OSError:
            return

    def is_allowed(self, address: Address) -> bool:
        """Tell whether an address may be called."""
        meant = _meant(address)
        if any(one in network for network in self._allowed for one in (address, meant)):
            return True
        if any(meant in network for network in _RESERVED):
            return False
        if isinstance(meant, ipaddress.IPv6Address) and meant not in _GLOBAL_UNICAST:
            return False
        return meant.is_global and not meant.is_multicast


def _not_public(host: str, address: Address) -> AddressRefused:
    what = host if host == str(address) else f"{host} is {address}, which"
    return AddressRefused(
        f"{what} is not a public address.",
        mend="Use a public one, or have the operator allow its network in DISCERN_WEBHOOK_ALLOW.",
    )


def _meant(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class _Connection(http.client.HTTPConnection):
    """A connection to one address, whatever the name would mean by then."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=_SECONDS)
        self._address = address
        self._context = context

    def cut(self) -> None:
        """End whatever is going on, from another thread."""
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

    def connect(self) -> None:
        """Connect, with TLS where the URL says so; the certificate must be for the name."""
        plain = socket.create_connection((self._address, self.port), _SECONDS)
        if self._context is None:
            self.sock = plain
            return
        try:
            self.sock = self._context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
