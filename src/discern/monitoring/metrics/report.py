"""Samples in the text that Prometheus reads, or in OpenMetrics where it asks for that.

- Counters of workspaces beyond a bound are exported together, as those of `OTHERS`, and their gauges not at all: what
  is stored for each series elsewhere does not grow with the number of tenants.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from discern.core.errors import MissingExtra
from discern.monitoring.metrics.catalogue import CATALOGUE, sample_names
from discern.monitoring.types import Metric, Sample

OTHERS = "_others"
"""What workspaces beyond the bound are called; no workspace can have the name."""
_OF = {name: metric for metric in CATALOGUE.values() for name in sample_names(metric)}


def metric_of(sample: Sample) -> Metric:
    """Return the metric that a sample is one of."""
    return _OF[sample.name]


def fits(sample: Sample) -> bool:
    """Tell whether a sample is one of a metric of the catalogue, with its labels."""
    metric = _OF.get(sample.name)
    return metric is not None and len(sample.labels) == len(metric.labels) + sample.name.endswith("_bucket")


def bounded(samples: Iterable[Sample], named: Collection[str] | None) -> list[Sample]:
    """Return the samples with the workspaces that are not `named` put together; without any where it is None.

    Those of a workspace that is not known to be named would be a sum that falls once it is.
    """
    kept: list[Sample] = []
    others: dict[tuple[str, tuple[str, ...]], float] = {}
    for sample in samples:
        metric = metric_of(sample)
        place = metric.labels.index("workspace") if "workspace" in metric.labels else -1
        if place < 0 or (named is not None and sample.labels[place] in named):
            kept.append(sample)
        elif named is not None and metric.kind != "gauge":
            labels = (*sample.labels[:place], OTHERS, *sample.labels[place + 1 :])
            others[sample.name, labels] = others.get((sample.name, labels), 0.0) + sample.value
    return kept + [Sample(name, labels, value) for (name, labels), value in others.items()]


def text_of(samples: Iterable[Sample], accept: str) -> tuple[bytes, str]:
    """Return the text, and its media type: OpenMetrics where `accept`, a header, asks for it. Raises MissingExtra."""
    try:
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra(
            "Metrics need prometheus-client, which is not installed.",
            mend="Install it: pip install 'discern-detectors[server]'.",
            extra="server",
        ) from error
    encode, media_type = choose_encoder(accept)
    return encode(_Export(samples)), media_type


class _Export:
    """What prometheus-client takes for a registry."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._of: dict[str, list[Sample]] = {}
        for sample in samples:
            self._of.setdefault(metric_of(sample).name, []).append(sample)

    def collect(self) -> Iterator[Any]:
        """Yield the metrics there are, in the order of the table."""
        from prometheus_client.metrics_core import Metric as Family  # noqa: PLC0415 - an extra

        for name, metric in CATALOGUE.items():
            samples = self._of.get(name)
            if samples is None:
                continue
            family = Family(name.removesuffix("_total") if metric.kind == "counter" else name, metric.help, metric.kind)
            for sample in samples:
                names = (*metric.labels, "le") if sample.name.endswith("_bucket") else metric.labels
                family.add_sample(sample.name, dict(zip(names, sample.labels, strict=True)), sample.value)
            yield family
