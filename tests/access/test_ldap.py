"""Directories: whom a real slapd knows comes in, and nothing that is typed asks it anything else."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import ldap3
import pytest

from discern.access.service_users import FREE_FAILURES
from tests.access.conftest import Furnish
from tests.access.federated import Installation, sign_in_file
from tests.certificates import certificate_of_loopback
from tests.ports import free_port

SLAPD = shutil.which("slapd", path=f"{os.environ['PATH']}:/usr/sbin")
MODULES = Path("/usr/lib/ldap")
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(SLAPD is None or not MODULES.is_dir(), reason="slapd is not installed: apt-get install slapd"),
]
BASE = "dc=example,dc=org"
ROOT, SERVICE = f"cn=root,{BASE}", f"cn=service,{BASE}"
PASSWORD = "several words of a person"
SERVICE_PASSWORD = "several words of a service"
CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile {folder}/slapd.pid
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
# As careless as a directory can be: a DN without a password is let in as nobody.
allow bind_anon_cred
database mdb
suffix "{base}"
directory {folder}/data
rootdn "{root}"
rootpw {password}
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{service}" read by * none
"""


class Directory(NamedTuple):
    """A directory that runs."""

    port: int
    secure_port: int
    authority: Path
    log: Path

    def operations(self) -> list[str]:
        """Return the kinds of what was asked so far, connections too, in order."""
        return re.findall(r" (ACCEPT|BIND|SRCH) (?:from|base|dn=.* method)", self.log.read_text(errors="replace"))

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"


@contextmanager
def administrator(directory: Directory) -> Iterator[Any]:
    server = ldap3.Server("127.0.0.1", directory.port, get_info=ldap3.NONE)
    root = ldap3.Connection(server, ROOT, SERVICE_PASSWORD, auto_bind=True)
    try:
        yield root
    finally:
        root.unbind()


def furnished(directory: Directory) -> None:
    """Put people and groups into the directory."""
    with administrator(directory) as root:

        def add(dn: str, kind: str, **values: Any) -> None:
            assert root.add(dn, kind, values), root.result

        add(BASE, "domain", dc="example")
        add(SERVICE, "person", sn="service", userPassword=SERVICE_PASSWORD)
        for unit in ("people", "groups", "others"):
            add(f"ou={unit},{BASE}", "organizationalUnit")
        people = [("ann", "people"), ("bob", "people"), ("carl", "people"), ("twin", "people"), ("twin", "others")]
        for name, unit in people:
            person = {"cn": name, "sn": name, "userPassword": PASSWORD}
            add(f"uid={name},ou={unit},{BASE}", "inetOrgPerson", **person)
        add(f"cn=Reviewers,ou=groups,{BASE}", "groupOfNames", member=[f"uid=ann,ou=people,{BASE}"])
        add(f"cn=Owners,ou=groups,{BASE}", "groupOfNames", member=[f"uid=bob,ou=people,{BASE}"])


@pytest.fixture(scope="module")
def directory() -> Iterator[Directory]:
    """A slapd of this module's own on this machine, which may no more than anybody."""
    assert SLAPD is not None
    folder = Path(tempfile.mkdtemp(prefix="slapd-"))
    (folder / "data").mkdir()
    certificate_of_loopback(folder)
    text = CONFIGURATION.format(folder=folder, base=BASE, root=ROOT, service=SERVICE, password=f'"{SERVICE_PASSWORD}"')
    (folder / "slapd.conf").write_text(text)
    found = Directory(free_port(), free_port(), folder / "server.pem", folder / "log")
    nobody = "nobody" if os.geteuid() == 0 else None
    if nobody is not None:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, nobody)
    urls = f"ldap://127.0.0.1:{found.port} ldaps://127.0.0.1:{found.secure_port}"
    with found.log.open("wb") as log:
        command = [SLAPD, "-d", "stats", "-h", urls, "-f", str(folder / "slapd.conf")]
        process = subprocess.Popen(command, user=nobody, stderr=log)
    try:
        for _ in range(200):
            assert process.poll() is None, "slapd did not start"
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", found.port), 1).close()
                break
            time.sleep(0.05)
        furnished(found)
        yield found
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def file_of(url: str, more: str = "") -> str:
    return sign_in_file(
        "ldap.directory",
        f'url = "{url}"\nbind_dn = "{SERVICE}"\nbind_password_file = "word"\nuser_base = "ou=people,{BASE}"\n{more}',
        f'group = "cn=owners,ou=Groups,{BASE}"\nrole = "owner"',
        f'group = "cn=reviewers,ou=groups,{BASE}"\nrole = "reviewer"',
    )


@pytest.fixture
def at(home: Path, furnish: Furnish, directory: Directory) -> Installation:
    (home / "word").write_text(SERVICE_PASSWORD + "\n")
    return furnish(file_of(directory.url, f'ca_file = "{directory.authority}"'))


def sign_in(at: Installation, name: str = "ann", password: str = PASSWORD) -> Any:
    return at.browser.post("/v1/sign-in/directory", json={"name": name, "password": password})


def test_somebody_of_the_directory_comes_in_with_what_their_group_may(at: Installation) -> None:
    answer = sign_in(at)
    assert answer.status_code == 201, answer.text
    assert answer.json()["principal"]["role"] == "reviewer"
    assert at.browser.get("/v1/session").json()["csrf_token"] == answer.json()["csrf_token"]
    (user,) = at.services.users.list("default")
    assert (user.name, user.provider) == ("directory:ann", "directory")
    assert len(user.subject or "") == 36  # the entryUUID
    assert sign_in(at, "ANN ").status_code == 201  # the same person
    assert len(at.services.users.list("default")) == 1


def test_who_is_in_no_group_is_told_so_and_it_is_on_record(at: Installation) -> None:
    answer = sign_in(at, "carl")
    assert (answer.status_code, answer.json()["code"]) == (403, "sign_in_refused")
    assert "none of your groups" in answer.json()["detail"]
    assert at.services.users.list("default") == []
    assert at.acts()[0].outcome == "denied"


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ann", "several words of another"),
        ("ann", ""),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("*", PASSWORD),
        ("an*", PASSWORD),
        ("ann)(uid=*", PASSWORD),
        ("*)(|(uid=ann", PASSWORD),
        ("ann\x00", PASSWORD),
        ("x" * 5000, PASSWORD),
        ("ann", "x" * 5000),
        (f"uid=ann,ou=people,{BASE}", PASSWORD),
        ("service", SERVICE_PASSWORD),
    ],
)
def test_what_is_wrong_or_asks_for_something_else_is_answered_alike(at: Installation, name: str, password: str) -> None:
    answer = sign_in(at, name, password)
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_password"), answer.text
    assert "set-cookie" not in answer.headers
    assert at.services.users.list("default") == []


@pytest.mark.parametrize("group_base", ["", f'group_base = "ou=groups,{BASE}"'])
def test_a_name_that_does_not_exist_and_one_that_is_locked_take_the_directory_as_much(
    home: Path, furnish: Furnish, directory: Directory, group_base: str
) -> None:
    (home / "word").write_text(SERVICE_PASSWORD)
    at = furnish(file_of(directory.url, f'ca_file = "{directory.authority}"\n{group_base}'))

    def asked_for(name: str) -> list[str]:
        before = len(directory.operations())
        assert sign_in(at, name, "several words of another").status_code == 401
        return directory.operations()[before:]

    of_somebody = asked_for("ann")
    assert of_somebody.count("ACCEPT") == of_somebody.count("BIND") == 2
    assert asked_for("nobody") == of_somebody
    for _ in range(FREE_FAILURES):
        asked_for("ann")
    assert asked_for("ann") == of_somebody


def test_a_name_that_is_two_people_s_is_nobody_s(home: Path, furnish: Furnish, directory: Directory) -> None:
    (home / "word").write_text(SERVICE_PASSWORD)
    more = f'ca_file = "{directory.authority}"'
    at = furnish(file_of(directory.url, more).replace(f"ou=people,{BASE}", BASE))
    assert sign_in(at, "twin").status_code == 401
    assert sign_in(at, "ann").status_code == 201


def test_wrong_passwords_lock_somebody_before_they_ever_came(at: Installation) -> None:
    for _ in range(FREE_FAILURES):
        assert sign_in(at, password="several words of another").status_code == 401
    assert sign_in(at).status_code == 401  # locked, whatever is typed
    act = at.acts()[0]
    assert (act.outcome, act.reason, act.target) == ("denied", "wrong password", "provider:directory")
    assert sign_in(at, "bob").status_code == 201
    federation = at.services.federation
    clock = federation._clock
    federation._clock = lambda: clock() + timedelta(seconds=3)
    assert sign_in(at).status_code == 201
    federation._clock = clock
    for _ in range(3):  # what went before a right one is forgotten
        for _ in range(FREE_FAILURES - 1):
            assert sign_in(at, password="several words of another").status_code == 401
        assert sign_in(at).status_code == 201


def test_a_role_follows_the_group(at: Installation, directory: Directory) -> None:
    assert sign_in(at, "bob").json()["principal"]["role"] == "owner"
    owners, bob = f"cn=Owners,ou=groups,{BASE}", f"uid=bob,ou=people,{BASE}"
    with administrator(directory) as root:
        assert root.modify(owners, {"member": [(ldap3.MODIFY_REPLACE, [SERVICE])]}), root.result
        try:
            held = dict(at.browser.cookies)
            assert sign_in(at, "bob").status_code == 403
            time.sleep(1.1)
            at.browser.cookies.update(held)
            assert at.browser.get("/v1/session").status_code == 401
        finally:
            assert root.modify(owners, {"member": [(ldap3.MODIFY_REPLACE, [bob])]}), root.result


def test_groups_are_searched_where_people_do_not_name_them(home: Path, furnish: Furnish, directory: Directory) -> None:
    (home / "word").write_text(SERVICE_PASSWORD)
    more = f'ca_file = "{directory.authority}"\ngroup_attribute = "title"\ngroup_base = "ou=groups,{BASE}"'
    at = furnish(file_of(directory.url, more))
    assert sign_in(at).json()["principal"]["role"] == "reviewer"
    assert sign_in(at, "carl").status_code == 403


def test_ldaps_and_start_tls_check_the_certificate_and_its_name(
    home: Path, furnish: Furnish, directory: Directory
) -> None:
    (home / "word").write_text(SERVICE_PASSWORD)
    trusted = f'ca_file = "{directory.authority}"'
    secure = f"ldaps://127.0.0.1:{directory.secure_port}"
    assert sign_in(furnish(file_of(secure, trusted))).status_code == 201
    for url, more in (
        (secure, ""),  # not of an authority of the system
        (directory.url, ""),
        (secure.replace("127.0.0.1", "localhost"), trusted),  # not in the certificate
        (directory.url.replace("127.0.0.1", "localhost"), trusted),
    ):
        answer = sign_in(furnish(file_of(url, more)))
        assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable"), (url, answer.text)
    assert sign_in(furnish(file_of(directory.url, "start_tls = false"))).status_code == 201  # on this machine itself


def test_a_directory_that_is_down_or_silent_is_said_and_keeps_nobody_else_out(
    home: Path, furnish: Furnish, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discern.access.service_ldap._SECONDS", 1)
    (home / "word").write_text(SERVICE_PASSWORD)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        at = furnish(file_of(f"ldap://127.0.0.1:{silent.getsockname()[1]}", "start_tls = false"))
        at.services.users.create("default", "local", PASSWORD, role="analyst")
        waiting = [threading.Thread(target=sign_in, args=(at,)) for _ in range(3)]
        for thread in waiting:
            thread.start()
        login = {"name": "local", "password": PASSWORD}
        assert at.browser.post("/v1/login", json=login).status_code == 201
        for thread in waiting:
            thread.join()
        answer = sign_in(at)
        assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
    answer = sign_in(furnish(file_of("ldap://127.0.0.1:1", "start_tls = false")))
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
    (home / "word").write_text("several words of nobody")
    answer = sign_in(furnish(file_of(directory.url, "start_tls = false")))
    assert "the service account is refused" in answer.json()["detail"]


def test_a_login_is_json_and_a_directory_leads_no_browser_anywhere(at: Installation) -> None:
    form = at.browser.post("/v1/sign-in/directory", data={"name": "ann", "password": PASSWORD})
    assert (form.status_code, form.json()["code"]) == (415, "unsupported_input")
    for answer in (
        at.browser.get("/v1/sign-in/directory"),
        at.browser.get("/v1/sign-in/directory/metadata"),
        at.browser.get("/v1/sign-in/directory/callback?state=x&code=y"),
        at.browser.post("/v1/sign-in/another", json={"name": "ann", "password": PASSWORD}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_provider")


def test_the_certificate_is_what_ssl_itself_would_take_by_the_authority_alone(directory: Directory) -> None:
    def subject(authority: str | None) -> object:
        context = ssl.create_default_context(cafile=authority)
        with (
            socket.create_connection(("127.0.0.1", directory.secure_port), 5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            return (secure.getpeercert() or {}).get("subject")

    assert subject(str(directory.authority))
    with pytest.raises(ssl.SSLCertVerificationError):
        subject(None)
