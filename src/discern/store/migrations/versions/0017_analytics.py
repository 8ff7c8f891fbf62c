"""Hours of verdicts as they are rolled up, budgets, and views for tools of the operator's own.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Create the tables and the views."""
    counts = ("verdicts", "clear", "review", "flag", "cached", "degraded")
    op.create_table(
        "analytics_hours",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("detector", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in counts),
        sa.Column("milliseconds", sa.Float(), nullable=False),
        sa.Column("cost", sa.Float(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("callers", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Float()) for name in ("p50", "p95", "p99")),
        sa.Column("measured", sa.BigInteger(), nullable=False),
        sa.Column("drift_alarms", sa.Integer(), nullable=False),
        sa.Column("caller_hashes", sa.LargeBinary(), nullable=False),
        sa.Column("latencies", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "hour", "detector", "version", name="pk_analytics_hours"),
    )
    op.create_index("ix_analytics_hours_hour", "analytics_hours", ["hour"])
    op.create_table(
        "budgets",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("amount", sa.Float()),
        sa.Column("verdicts", sa.BigInteger()),
        sa.PrimaryKeyConstraint("workspace", name="pk_budgets"),
    )
    _create_views(on_sqlite=op.get_bind().dialect.name == "sqlite")


def _create_views(*, on_sqlite: bool) -> None:
    """Create the views; only words of this file go into them."""
    day = "date(hour)" if on_sqlite else "CAST(hour AT TIME ZONE 'UTC' AS date)"
    op.execute(
        "CREATE VIEW discern_verdicts_hourly AS SELECT hour, workspace, detector, version, verdicts, clear, review, "
        "flag, cached, degraded, milliseconds, p50 AS p50_milliseconds, p95 AS p95_milliseconds, "
        "p99 AS p99_milliseconds, callers, drift_alarms, cost, currency FROM analytics_hours"
    )
    by_decision = " UNION ALL ".join(
        f"SELECT {day} AS day, workspace, detector, '{one}' AS decision, {one} AS verdicts FROM analytics_hours"  # nosec B608  # noqa: S608 - likewise
        for one in ("clear", "review", "flag")
    )
    verdicts = "CAST(sum(verdicts) AS BIGINT) AS verdicts"
    op.execute(
        f"CREATE VIEW discern_decisions_daily AS SELECT day, workspace, detector, decision, {verdicts} "  # nosec B608  # noqa: S608 - likewise
        f"FROM ({by_decision}) AS decided GROUP BY day, workspace, detector, decision"
    )
    op.execute(
        f"CREATE VIEW discern_cost_daily AS SELECT {day} AS day, workspace, detector, currency, {verdicts}, "  # nosec B608  # noqa: S608 - likewise
        f"sum(cost) AS cost FROM analytics_hours GROUP BY {day}, workspace, detector, currency"
    )
    op.execute(
        "CREATE VIEW discern_quality AS SELECT workspace, detector, version, start AS window_start, "
        "json_extract(figure.value, '$.measure') AS measure, json_extract(figure.value, '$.kind') AS kind, "
        "json_extract(figure.value, '$.value') AS value, json_extract(figure.value, '$.low') AS low, "
        "json_extract(figure.value, '$.high') AS high "
        "FROM quality_windows, json_each(CAST(body AS TEXT), '$.figures') AS figure"
        if on_sqlite
        else "CREATE VIEW discern_quality AS SELECT workspace, detector, version, start AS window_start, "
        "figure->>'measure' AS measure, figure->>'kind' AS kind, (figure->>'value')::double precision AS value, "
        "(figure->>'low')::double precision AS low, (figure->>'high')::double precision AS high "
        "FROM quality_windows, jsonb_array_elements(convert_from(body, 'UTF8')::jsonb->'figures') AS figure"
    )
    op.execute("CREATE VIEW discern_budgets AS SELECT workspace, amount, verdicts FROM budgets")


def downgrade() -> None:
    """Schemas are not downgraded."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
