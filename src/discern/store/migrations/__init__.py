"""Schema migrations, run by Alembic inside the process that opens the database.

- A schema that a later Discern wrote is refused, never touched.
- Two processes that start at the same time do not upgrade at the same time: `Database` holds a lock meanwhile.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine

from discern.core.errors import StorageUnavailable

LATEST_REVISION = "0018"
_FOLDER = Path(__file__).parent


class Schema(NamedTuple):
    """What a database holds: the folder of its revisions, and the latest of them."""

    folder: str
    latest: str


LEDGER = Schema("versions", LATEST_REVISION)
SUBJECT_KEYS = Schema("subject_keys", "0001")


def upgrade(engine: Engine, revision: str | None, schema: Schema) -> None:
    """Bring the schema from `revision` to the latest. Raises StorageUnavailable for a revision nobody here knows."""
    known = {path.name.partition("_")[0] for path in (_FOLDER / schema.folder).glob("[0-9]*.py")}
    if revision is not None and revision not in known:
        raise StorageUnavailable(
            f"The database has schema {revision}; this Discern knows schemas up to {schema.latest}.",
            mend="Run the version of Discern that wrote it, or a later one, or restore a backup.",
        )
    # Imported here: Alembic costs a noticeable part of a second and is needed once in a schema's life.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.set_main_option("version_locations", str(_FOLDER / schema.folder))
    config.set_main_option("path_separator", "os")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
