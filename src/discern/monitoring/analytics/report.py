"""A report as one page of HTML that needs nothing else, and as Markdown.

- Every text from outside is escaped, nothing is loaded, and nothing runs.
- On a narrow screen the page does not scroll sideways; wide tables do by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from discern.monitoring.analytics.rules_drawing import HEIGHT, WIDTH, Box, Dot, Line, Shape, shapes
from discern.monitoring.analytics.rules_page import Chart, Grid, Page

# Dates, and names with their versions, stay in one line.
_SHORT = 24
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --faint: #5d6877; --line: #dfe4ea; --page: #fff; --soft: #f5f7fa;
  --clear: #8fa3bb; --review: #d99a1c; --flag: #b4460f; --cost: #2563c9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --faint: #9aa5b4; --line: #333c49; --page: #14181f;
  --soft: #1c222c; --clear: #5d7087; --review: #e0ad45; --flag: #ff9d66; --cost: #7eb0ff; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; } p { margin: .4rem 0; }
.period, footer { color: var(--faint); } .lead { font-size: 1.15rem; margin: 1rem 0; }
.attention { border-left: 4px solid var(--flag); background: var(--soft); padding: .6rem 1rem .6rem 2rem; margin: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: var(--faint); } th, td { padding: .25rem 1.2rem .25rem 0; text-align: left;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; vertical-align: top; }
.number { text-align: right; } .number, .short { white-space: nowrap; }
figure { margin: .8rem 0; overflow-x: auto; } svg { display: block; width: 100%; min-width: 26rem; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--faint); } svg polyline { fill: none; stroke-width: 2; }
.grid { stroke: var(--line); } .clear { --colour: var(--clear); } .review { --colour: var(--review); }
.flag { --colour: var(--flag); } .cost { --colour: var(--cost); }
rect, circle { fill: var(--colour); } polyline { stroke: var(--colour); } svg polyline.grid { stroke: var(--line);
  stroke-width: 1; }
footer { margin: 2.5rem 0; font-size: .85rem; }
@media print { body { max-width: none; } section { break-inside: avoid; } }
"""


def html(page: Page) -> str:
    """Return the page, HTML."""
    title = escape(page.title)
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}, {escape(page.period)}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{title}</h1><p class="period">{escape(page.period)}</p><p class="lead">{escape(page.lead)}</p>',
    ]
    if page.attention:
        parts += ['<ul class="attention">', *(f"<li>{escape(one)}</li>" for one in page.attention), "</ul>"]
    for section in page.sections:
        parts.append(f"<section><h2>{escape(section.heading)}</h2>")
        parts += [_part(one) for one in section.parts]
        parts.append("</section>")
    parts.append(f"<footer>{escape(page.foot)}</footer></body></html>")
    return "\n".join(parts) + "\n"


def _part(part: str | Grid | Chart) -> str:
    if isinstance(part, str):
        return f"<p>{escape(part)}</p>"
    if isinstance(part, Chart):
        return f"<figure>{svg(part)}</figure>"
    head = "".join(
        f'<th scope="col"{_class(name, to)}>{escape(name)}</th>' for name, to in zip(part.head, part.right, strict=True)
    )
    rows = (
        "".join(f"<td{_class(cell, to)}>{escape(cell)}</td>" for cell, to in zip(row, part.right, strict=True))
        for row in part.rows
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _class(cell: str, right: bool) -> str:
    if right:
        return ' class="number"'
    return ' class="short"' if len(cell) <= _SHORT else ""


def svg(chart: Chart) -> str:
    """Return a chart, SVG."""
    drawn = "".join(_shape(one) for one in shapes(chart))
    words = escape(chart.words, quote=True)
    return f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{words}">{drawn}</svg>'


def _shape(shape: Shape) -> str:
    if isinstance(shape, Line):
        points = " ".join(f"{x:g},{y:g}" for x, y in shape.points)
        return f'<polyline class="{shape.colour}" points="{points}"/>'
    if isinstance(shape, Box):
        place = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}"'
        return f'<rect class="{shape.colour}" {place}/>'
    if isinstance(shape, Dot):
        return f'<circle class="{shape.colour}" cx="{shape.x:g}" cy="{shape.y:g}" r="3"/>'
    return f'<text x="{shape.x:g}" y="{shape.y:g}" text-anchor="{shape.anchor}">{escape(shape.text)}</text>'


def markdown(page: Page) -> str:
    """Return the page, Markdown; charts have their figures in the tables beside them."""
    lines = [f"# {_plain(page.title)}", "", _plain(page.period), "", f"**{_plain(page.lead)}**", ""]
    lines += [f"- {_plain(one)}" for one in page.attention]
    for section in page.sections:
        lines += ["", f"## {_plain(section.heading)}", ""]
        for part in section.parts:
            if isinstance(part, str):
                lines += [_plain(part), ""]
            elif isinstance(part, Grid):
                lines += [*_table(part), ""]
    return "\n".join([*lines, "", _plain(page.foot), ""])


def _table(grid: Grid) -> Iterator[str]:
    yield f"| {' | '.join(_plain(name) for name in grid.head)} |"
    yield f"|{'|'.join('---:' if right else '---' for right in grid.right)}|"
    yield from (f"| {' | '.join(_plain(cell) for cell in row)} |" for row in grid.rows)


def _plain(text: str) -> str:
    """Return a text in one line that means itself in Markdown; within a word `_` does so anyway."""
    return re.sub(r"([\\`*\[\]<>|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", " ".join(text.split()))
