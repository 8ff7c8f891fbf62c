from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from discern.access.rules import fingerprint, is_well_formed, make_secret
from discern.access.service import Keys
from discern.access.store import KeyStore
from discern.core.errors import CallerError, Forbidden, Unauthenticated
from discern.store.sqlite import SqliteDatabase

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    database = SqliteDatabase(tmp_path / "discern.db")
    database.open()
    yield Keys(KeyStore(database), clock=lambda: NOW)
    database.close()


def test_a_secret_has_256_random_bits_behind_a_prefix_that_scanners_can_find() -> None:
    secrets = {make_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(re.fullmatch(r"dsc_[A-Za-z0-9_-]{43}", secret) for secret in secrets)


def test_an_issued_key_stands_for_its_workspace(keys: Keys) -> None:
    issued = keys.issue("default", "laptop")
    principal = keys.authenticate(issued.secret)
    assert (principal.workspace, principal.id) == ("default", f"key:{issued.key.id}")


def test_the_secret_itself_reaches_no_file(keys: Keys, tmp_path: Path) -> None:
    secret = keys.issue("default", "laptop").secret
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert secret.encode() not in content
        assert secret.removeprefix("dsc_").encode() not in content
    assert any(fingerprint(secret) in path.read_bytes() for path in tmp_path.iterdir())


def test_the_first_key_is_made_once(keys: Keys) -> None:
    first = keys.issue_first("default")
    assert first is not None
    assert keys.issue_first("default") is None
    keys.revoke("default", first.key.id)
    assert keys.issue_first("default") is None


@pytest.mark.parametrize("secret", [None, "", "dsc_", "dsc_" + "a" * 43, "a" * 10_000, "dsc_" + "ä" * 43, "'; --"])
def test_anything_but_an_issued_secret_is_refused(keys: Keys, secret: str | None) -> None:
    keys.issue("default", "laptop")
    with pytest.raises(Unauthenticated):
        keys.authenticate(secret)


def test_a_revoked_key_is_refused_from_then_on_and_stays_listed(keys: Keys) -> None:
    issued = keys.issue("default", "laptop")
    keys.revoke("default", issued.key.id)
    with pytest.raises(Unauthenticated):
        keys.authenticate(issued.secret)
    assert [(key.name, key.revoked_at) for key in keys.list("default")] == [("laptop", NOW)]


def test_revoking_what_is_not_there_says_so(keys: Keys) -> None:
    with pytest.raises(CallerError, match="no live key"):
        keys.revoke("default", uuid4())


def test_a_workspace_does_not_see_or_revoke_the_keys_of_another(keys: Keys) -> None:
    issued = keys.issue("default", "laptop")
    assert keys.list("other") == []
    with pytest.raises(CallerError):
        keys.revoke("other", issued.key.id)
    keys.authenticate(issued.secret)


@pytest.mark.parametrize("end", [None, NOW + timedelta(days=1, seconds=1)])
def test_a_key_that_ends_makes_none_that_outlives_it(keys: Keys, end: datetime | None) -> None:
    by = keys.authenticate(keys.issue("default", "for a day", role="owner", expires_at=NOW + timedelta(days=1)).secret)
    with pytest.raises(Forbidden, match=r"outlives it\. Give an end .* at most 86400") as refused:
        keys.issue("default", "longer", expires_at=end, by=by)
    assert refused.value.facts["action"] == "keys.create"
    assert [key.name for key in keys.list("default")] == ["for a day"]
    assert keys.issue("default", "as long", expires_at=NOW + timedelta(days=1), by=by).secret


def test_what_a_key_that_ends_rotates_ends_with_it(keys: Keys) -> None:
    first, ends = (
        keys.issue("default", "for a day", role="owner", expires_at=NOW + timedelta(days=1)),
        timedelta(days=1),
    )
    by = keys.authenticate(first.secret)
    endless = keys.issue("default", "endless").key
    short = keys.issue("default", "short", expires_at=NOW + timedelta(hours=1)).key
    made = [keys.rotate("default", key.id, timedelta(hours=1), by).key for key in (endless, short, first.key)]
    assert [key.expires_at for key in made] == [NOW + ends, NOW + timedelta(hours=1), NOW + ends]


def test_a_key_without_an_end_and_whoever_has_none_make_keys_for_ever(keys: Keys) -> None:
    by = keys.authenticate(keys.issue("default", "for ever", role="owner").secret)
    assert keys.issue("default", "another", by=by).key.expires_at is None
    assert keys.rotate("default", keys.issue("default", "a third").key.id, timedelta(), by).key.expires_at is None


@pytest.mark.parametrize("name", ["", "x" * 101, "two\nlines", "\udcff"])
def test_a_name_that_cannot_be_kept_is_refused(keys: Keys, name: str) -> None:
    with pytest.raises(CallerError):
        keys.issue("default", name)


def test_a_secret_is_told_from_garbage_before_the_database_is_asked() -> None:
    assert is_well_formed(make_secret())
    assert not is_well_formed("dsc_short")
    assert not is_well_formed(make_secret() + "x")
