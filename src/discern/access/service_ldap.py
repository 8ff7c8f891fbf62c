"""Directories: LDAP, with the password of whoever signs in (RFC 4511, RFC 4513).

- A service account finds the entry, what was typed escaped; then the directory is bound to with that entry's DN and the
  password. The service account reads the groups, so that nobody sees themselves into one.
- Certificates are checked, and the name in them; without TLS nothing is sent but to this machine itself, unless the
  operator says so.
- Referrals are not followed: they would take the password to another server.
- For a name that nobody has the directory is asked as much as for one that somebody has: searched for groups, and bound
  to with the password, as an entry that cannot be there.
- An empty password never binds: it would be taken for nobody's, and accepted.
"""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from discern.access.rules_federation import check_subject
from discern.access.types_federation import Found, Identity, LdapProvider
from discern.core.errors import InvalidSettings, MissingExtra, ProviderUnavailable, SignInRefused

log = logging.getLogger(__name__)
_SECONDS = 5
_PORTS = {"ldap": 389, "ldaps": 636}
_SUCCESS, _SIZE_LIMIT_EXCEEDED = 0, 4
# What says that the directory cannot answer, rather than that the password is wrong (RFC 4511, section 4.1.9).
_DOWN = {1, 2, 3, 8, 11, 13, 51, 52, 80}
_MOST_NAME, _MOST_PASSWORD, _MOST_GROUPS = 256, 1024, 5000


class Ldap:
    """One directory. `password` is that of its service account."""

    def __init__(self, name: str, provider: LdapProvider, password: str) -> None:
        if not password or not provider.bind_dn:
            raise InvalidSettings(
                f"The service account of {name} has no name or no password.",
                mend="Set bind_dn and bind_password_file.",
                setting="identity_providers",
            )
        _library()
        self._name = name
        self._provider = provider
        self._password = password
        parts = urlsplit(provider.url)
        self._secure = parts.scheme == "ldaps"
        self._host, self._port = parts.hostname or "", parts.port or _PORTS[parts.scheme]

    def check(self) -> str:
        """Return what is found of the directory. Raises ProviderUnavailable."""
        with self._bound(self._provider.bind_dn, self._password) as (connection, code):
            if code != _SUCCESS:
                raise self._unavailable(f"the service account is refused (result code {code})")
            self._search(connection, self._provider.user_base, "(objectClass=*)", 1)
        return "The service account is let in, and searches."

    def find(self, name: str) -> Found | None:
        """Return who goes by a name. Raises ProviderUnavailable."""
        if len(name) > _MOST_NAME:
            return None
        provider = self._provider
        with self._bound(provider.bind_dn, self._password) as (connection, code):
            if code != _SUCCESS:
                raise self._unavailable(f"the service account is refused (result code {code})")
            wanted = provider.user_filter.replace("{name}", _escaped(name))
            found = self._search(connection, provider.user_base, wanted, 2)
            if len(found) > 1:
                log.error("directory_name_ambiguous", extra={"provider": self._name, "filter": wanted[:300]})
            entry = found[0] if len(found) == 1 else {"dn": self._nobodys_dn(), "raw_attributes": {}}
            dn = str(entry["dn"])
            groups = [one.decode("utf-8", "replace") for one in _values(entry, provider.group_attribute)]
            if provider.group_base is not None:
                held = provider.group_filter.replace("{dn}", _escaped(dn))
                groups += [str(one["dn"]) for one in self._search(connection, provider.group_base, held, _MOST_GROUPS)]
        if len(found) != 1:
            return None
        subject = self._subject(entry)
        # A directory is its entries, whichever server has them.
        issuer = provider.user_base.lower()
        return Found(dn, Identity(issuer, subject, name, groups=tuple(dict.fromkeys(groups))))

    def proves(self, found: Found | None, password: str) -> bool:
        """Tell whether a password is theirs; nobody's it never is, but it takes as much. Raises ProviderUnavailable."""
        if not 0 < len(password) <= _MOST_PASSWORD:
            return False
        with self._bound(self._nobodys_dn() if found is None else found.dn, password) as (_, code):
            if code in _DOWN:
                raise self._unavailable(f"it does not check passwords (result code {code})")
            return code == _SUCCESS and found is not None

    def _nobodys_dn(self) -> str:
        return f"cn={secrets.token_hex(16)},{self._provider.user_base}"

    def _subject(self, entry: Any) -> str:  # noqa: ANN401 - ldap3 has no types
        name = self._provider.subject_attribute
        values = _values(entry, name)
        if len(values) != 1:
            raise SignInRefused(
                f"The directory does not say who you are: there is not one {name}.",
                mend="Set subject_attribute to one that everybody has and that never changes.",
                provider=self._name,
            )
        if name.lower() == "objectguid" and len(values[0]) == 16:
            return str(UUID(bytes_le=values[0]))
        return check_subject(values[0].decode("utf-8", "replace"))

    def _search(self, connection: Any, base: str, wanted: str, most: int) -> list[Any]:  # noqa: ANN401
        provider = self._provider
        connection.search(
            base,
            wanted,
            attributes=[provider.subject_attribute, provider.group_attribute],
            size_limit=most,
            time_limit=_SECONDS,
        )
        code = connection.result["result"]
        if code not in {_SUCCESS, _SIZE_LIMIT_EXCEEDED}:
            raise self._unavailable(f"it does not search {base} (result code {code})")
        return [one for one in connection.response or () if one["type"] == "searchResEntry"]

    @contextmanager
    def _bound(self, dn: str, password: str) -> Iterator[tuple[Any, int]]:
        """A connection that was bound, or tried to, and the result code of that. Raises ProviderUnavailable."""
        ldap3 = _library()
        from ldap3.core.exceptions import LDAPException  # noqa: PLC0415 - an extra

        try:
            server = ldap3.Server(
                self._host,
                self._port,
                use_ssl=self._secure,
                tls=self._tls(),
                get_info=ldap3.NONE,
                connect_timeout=_SECONDS,
            )
            connection = ldap3.Connection(
                server, dn, password, auto_referrals=False, read_only=True, receive_timeout=_SECONDS
            )
            try:
                connection.open()
                if not self._secure and self._provider.start_tls:
                    connection.start_tls()
                connection.bind()
                yield connection, int(connection.result["result"])
            finally:
                connection.unbind()
                if connection.socket is not None:
                    connection.socket.close()  # ldap3 leaves one open that did not connect
        except (LDAPException, OSError) as error:
            raise self._unavailable(str(error)[:300]) from error

    def _tls(self) -> Any:  # noqa: ANN401
        """Return what makes connections of ldap3's secure by Python's own rules, the name in the certificate too."""
        ldap3 = _library()
        try:
            context = ssl.create_default_context(cafile=self._provider.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise self._unavailable(f"its ca_file cannot be read: {error}") from error
        host = self._host

        class Verified(ldap3.Tls):  # type: ignore[misc, name-defined]
            def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: ANN401, ARG002
                connection.socket = context.wrap_socket(connection.socket, server_hostname=host)

        return Verified()

    def _unavailable(self, why: str) -> ProviderUnavailable:
        return ProviderUnavailable(
            f"{self._name} cannot be used: {why}.", mend="Try again later, or sign in otherwise.", provider=self._name
        )


def _values(entry: Any, name: str) -> list[bytes]:  # noqa: ANN401
    """Return the values of an attribute, whatever case its name was sent in."""
    for key, values in entry["raw_attributes"].items():
        if key.lower() == name.lower():
            return [bytes(one) for one in values]
    return []


def _escaped(text: str) -> str:
    from ldap3.utils.conv import escape_filter_chars  # noqa: PLC0415 - an extra

    return str(escape_filter_chars(text))


def _library() -> Any:  # noqa: ANN401
    try:
        import ldap3  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra(
            "Directories need ldap3, which is not installed.",
            mend="Install it: pip install 'discern-detectors[ldap]'.",
            extra="ldap",
        ) from error
    return ldap3
