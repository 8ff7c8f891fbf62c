"""Writes the dashboards and the recording rules."""

from pathlib import Path

from deploy.monitoring.dashboards.grafana import files


def main() -> None:
    """Write every file into `deploy/monitoring`."""
    root = Path(__file__).parent.parent
    for name, text in files():
        (root / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
