"""What permission and authentication cost a request: `python -m bench.access`. In process, one thread."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.home import RECORD
from bench.report import Row, at_most, table
from discern.access.service import Keys
from discern.access.service_policies import Policies
from discern.access.service_tokens import Tokens
from discern.access.service_users import Users
from discern.access.store import KeyStore
from discern.access.store_users import UserStore
from discern.access.types import Principal, Resource
from discern.store.sqlite import SqliteDatabase

_ROUNDS = 9
_TIMES = 2000
_PASSWORD = "several words of nobody"


def rows(folder: Path) -> Iterator[Row]:
    """Yield a row for each."""
    database = SqliteDatabase(folder / "access.db")
    database.open()
    keys, policies = Keys(KeyStore(database)), Policies(folder / "policies")
    policies.open()
    secret = keys.issue("default", "bench").secret
    principal = keys.authenticate(secret)
    fresh = iter(range(10_000_000))

    def remembered() -> None:
        if keys.remembered(secret) is None:
            keys.authenticate(secret)

    def decided() -> None:
        about = Resource("Verdict", str(next(fresh)), principal.workspace, RECORD)
        policies.allows(Principal(principal.id, principal.workspace), "verdicts.read", about)

    about = Resource("Detector", RECORD, principal.workspace, RECORD)
    yield at_most("a permission, decided", _microseconds(decided), 100, "us")
    yield at_most(
        "a permission, remembered", _microseconds(lambda: policies.allows(principal, "detect", about)), 100, "us"
    )
    yield at_most("a key, warm", _microseconds(remembered), 200, "us")
    yield at_most("a key, looked up in SQLite", _microseconds(lambda: keys.authenticate(secret)), 1000, "us")
    tokens = Tokens(keys, folder / "tokens", 300)
    token = tokens.issue(principal).token
    yield at_most("a token, warm", _microseconds(lambda: tokens.authenticate(token)), 200, "us")
    users = Users(UserStore(database))
    users.create("default", "bench", _PASSWORD, role="analyst")

    def sign_in() -> None:
        user, hashed = users.check("bench", _PASSWORD)
        users.begin(user, "", factor=None, password=hashed)

    warm = _microseconds(sign_in, times=10)
    yield at_most("a password, and the session it begins", warm / 1000, 100, "ms")
    database.close()


def _microseconds(call: Callable[[], object], times: int = _TIMES) -> float:
    found = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for _ in range(times):
            call()
        found.append((time.perf_counter() - started) / times * 1e6)
    return statistics.median(found)


def main() -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory(prefix="discern-bench-") as name:
        print(table(rows(Path(name))))


if __name__ == "__main__":
    main()
