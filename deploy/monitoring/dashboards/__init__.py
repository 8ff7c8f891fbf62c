"""The dashboards as code; `python -m deploy.monitoring.dashboards` writes what Grafana and Prometheus read."""
