"""Where the table of alerts comes from: the one in the package, and the operator's own file."""

from __future__ import annotations

from pathlib import Path

from discern.alerts.rules_catalogue import Known
from discern.alerts.rules_routes import routes_of
from discern.alerts.rules_table import Text, rules_of
from discern.alerts.types import Table
from discern.core.errors import InvalidSettings

_SHIPPED = Path(__file__).parent / "rules.toml"
_MOST_BYTES = 1_000_000


def shipped() -> Text:
    """Return the table in the package."""
    return Text("rules.toml", _SHIPPED.read_text(encoding="utf-8"))


class AlertTable:
    """The table of an installation. `path` is the operator's file, which need not be there; read once."""

    def __init__(self, path: Path, known: Known | None) -> None:
        self.path = path
        self._known = known
        self._table: Table | None = None

    def open(self) -> Table:
        """Return the table. Raises InvalidSettings that names file, line and key."""
        if self._table is None:
            self._table = self.read()
        return self._table

    def read(self) -> Table:
        """Return the table as it is in the files at this moment. Raises InvalidSettings."""
        own = self._own()
        rules, off, inhibitions = rules_of(shipped(), own, self._known)
        channels, routes = routes_of(own, self._secret)
        return Table(rules, inhibitions, channels, routes, off)

    def shipped(self) -> Table:
        """Return the table in the package alone."""
        rules, off, inhibitions = rules_of(shipped(), None, self._known)
        channels, routes = routes_of(None, self._secret)
        return Table(rules, inhibitions, channels, routes, off)

    def _own(self) -> Text | None:
        try:
            if self.path.stat().st_size > _MOST_BYTES:
                detail = f"{self.path} has more than {_MOST_BYTES} bytes."
                raise InvalidSettings(detail, mend="Write less.", setting="alerts.toml")
            return Text(str(self.path), self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSettings(
                f"{self.path} cannot be read: {error}.", mend="See the file.", setting="alerts.toml"
            ) from error

    def _secret(self, name: str) -> str:
        """Return what a file holds that is named beside the table, or in full."""
        return (self.path.parent / Path(name).expanduser()).read_text(encoding="utf-8")
