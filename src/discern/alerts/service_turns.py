"""Whose turn it is: one process of each machine evaluates, and one of these leads.

- Who leads also evaluates its own machine, so that on a single machine one process does all.
"""

from __future__ import annotations

import socket
from datetime import datetime

from discern.core.clock import Clock, utc_now
from discern.store.database import Database
from discern.store.turns import StillHeld, Turn, held_since

_MOST_CHARACTERS = 48
_OF_MACHINES = "alerts of "


class Turns:
    """The turns of this process. Every method raises StorageUnavailable."""

    def __init__(self, database: Database, machine: str = "", clock: Clock = utc_now) -> None:
        self.machine = (machine or socket.gethostname() or "localhost")[:_MOST_CHARACTERS]
        self._database = database
        self._machine = Turn(database, f"{_OF_MACHINES}{self.machine}", clock=clock)
        self._lead = Turn(database, "alerts", clock=clock)

    def observe(self) -> bool:
        """Tell whether this process evaluates its machine."""
        return self._machine.take()

    def lead(self) -> bool:
        """Tell whether this process leads."""
        return self._machine.take() and self._lead.take()

    @property
    def still_leads(self) -> StillHeld:
        """What tells, in a transaction, whether nobody else has led since this process did."""
        return self._lead.is_held

    def reporting(self, since: datetime) -> set[str]:
        """Return the machines that some process has evaluated since."""
        names = held_since(self._database, since)
        return {name.removeprefix(_OF_MACHINES) for name in names if name.startswith(_OF_MACHINES)}

    def give_back(self) -> None:
        """Let other processes go on at once."""
        self._lead.give_back()
        self._machine.give_back()
