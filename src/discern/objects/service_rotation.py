"""Rotating the master key: another version, and every key that an older one wraps wrapped by it.

- What is kept is not written anew, only its keys are.
- Whatever was moved before a death stays moved; `resume` does the rest.
- A version is removed only when nothing needs it.
- What cannot be put on record is not done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from discern.audit.ports import Trail
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, DiscernError, ObjectRefused
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.objects.ports import WrappedKeys
from discern.objects.rules import check_removable
from discern.objects.service_masters import KeyRing
from discern.objects.types import KeyUse, KeyVersion, Rewrapped, WrappedKey, Wrapping

_AT_ONCE = 100


class Rotation:
    """The versions of the master key. `tables` are all that hold keys which it wraps."""

    def __init__(self, keys: KeyRing, tables: Sequence[WrappedKeys], trail: Trail, clock: Clock = utc_now) -> None:
        self._keys = keys
        self._tables = tables
        self._trail = trail
        self._clock = clock

    def list(self) -> list[KeyUse]:
        """Return every version that is here or that something was wrapped by. Raises StorageUnavailable."""
        uses: dict[str, int] = {}
        for table in self._tables:
            for key_id, count in table.uses().items():
                uses[key_id] = uses.get(key_id, 0) + count
        here: dict[str, KeyVersion | None] = {version.id: version for version in self._keys.versions()}
        here |= {key_id: self._keys.version(key_id) for key_id in sorted(uses) if key_id not in here}
        return [
            KeyUse(version or KeyVersion(key_id), version is not None, uses.get(key_id, 0))
            for key_id, version in here.items()
        ]

    def rotate(self, who: str, watch: Callable[[int], None] = lambda _: None) -> Rewrapped:
        """Make a version and move every key to it. Raises CallerError where others make versions."""
        kind, before = self._keys.master.kind, self._keys.current()
        with self._on_record(who, "master-keys.rotate", kind, before={"current": before}):
            self._keys.master.make_version()
        return self.resume(who, watch)

    def resume(self, who: str, watch: Callable[[int], None] = lambda _: None) -> Rewrapped:
        """Move every key that another version wraps to the current one; `watch` is told how many are done."""
        current = self._keys.current()
        count = failed = 0
        for table in self._tables:
            after = None
            while found := table.pending(current, after, _AT_ONCE):
                moved = [pair for pair in map(self._moved, found) if pair is not None]
                failed += len(found) - len(moved)
                count += table.replace(moved)
                after = found[-1].id
                watch(count)
        after_it = {"current": current, "keys": count, "failed": failed}
        self._trail.record(self._act(who, "master-keys.rewrap", current, after=after_it))
        return Rewrapped(current, count, failed)

    def remove(self, who: str, key_id: str) -> None:
        """Remove a version that nothing needs. Raises CallerError where something does, or it is not here."""
        version, current = self._keys.version(key_id), self._keys.version(self._keys.current())
        if version is None:
            raise CallerError(f"There is no version {key_id} here.", mend="`discern keys list` shows them.")
        uses = sum(table.uses().get(key_id, 0) for table in self._tables)
        made_at = None if current is None else current.made_at
        check_removable(KeyUse(version, is_here=True, uses=uses), made_at, self._clock())
        with self._on_record(who, "master-keys.remove", key_id):
            self._keys.remove_version(key_id)

    def _moved(self, old: Wrapping) -> tuple[Wrapping, WrappedKey] | None:
        try:
            return old, self._keys.wrap(self._keys.unwrap(old.key, old.context), old.context)
        except ObjectRefused:  # its version is gone, or somebody changed it: the others are moved all the same
            return None

    @contextmanager
    def _on_record(self, who: str, act: str, target: str, **facts: Any) -> Iterator[None]:  # noqa: ANN401
        """Put an act on record before it is done, for it cannot be undone; and that it failed, where it did."""
        self._trail.record(self._act(who, act, target, **facts))
        try:
            yield
        except DiscernError as error:
            self._trail.record(self._act(who, act, target, outcome="failed", reason=error.detail))
            raise

    @staticmethod
    def _act(who: str, act: str, target: str, **facts: Any) -> Act:  # noqa: ANN401
        return Act(DEFAULT_WORKSPACE, who, act, f"master-key:{target}", **facts)
