"""The result as one HTML page that loads nothing, and as Markdown for the card.

- What comes from a bundle or a dataset (names, ids, sentences) is escaped wherever it stands.

Needs the extra `evaluate`.
"""

from __future__ import annotations

import re
from typing import Any

import jinja2

from discern.evaluation import report_conditions, report_plots, report_words
from discern.evaluation.results import Result, Timings

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~])")


def html(result: Result, timings: Timings) -> bytes:
    """Return the page, which shows times too."""
    return _environment().get_template("report.html.j2").render(r=result, t=timings).encode()


def markdown(result: Result) -> bytes:
    """Return the Markdown."""
    return _environment().get_template("report.md.j2").render(r=result).encode()


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("discern.evaluation", "templates"),
        # Markdown has an escape of its own, the filter `md`.
        autoescape=jinja2.select_autoescape(("html.j2",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    words: dict[str, Any] = {
        "metric": report_words.metric,
        "meaning": report_words.meaning,
        "figure": report_words.figure,
        "interval": report_words.interval,
        "percent": report_words.percent,
        "percent_interval": report_words.percent_interval,
        "figure_within": report_words.figure_within,
        "percent_within": report_words.percent_within,
        "chance": report_words.chance,
        "count": report_words.count,
        "found": report_words.found,
        "megabytes": report_words.megabytes,
        "in_order": report_words.in_order,
        "milliseconds": report_words.milliseconds,
        "small": report_words.small,
        "md": _escaped,
        "one_line": _one_line,
    }
    environment.filters.update(words)
    environment.globals.update(plots=report_plots, conditions=report_conditions, colours=report_plots.COLOURS)
    return environment


def _escaped(text: str) -> str:
    """Return text in which nothing means anything in Markdown."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())
