"""A report as PDF, by reportlab, which is in the extra `reports`.

- What the built-in font cannot write (it has the letters of Western Europe) is a question mark; HTML has everything.
- Nothing is fetched: a text from outside is never markup, so it can name no picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any

from discern.core.errors import MissingExtra
from discern.monitoring.analytics.rules_drawing import HEIGHT, WIDTH, Box, Dot, Line, shapes
from discern.monitoring.analytics.rules_page import Chart, Grid, Page, columns_fit

if TYPE_CHECKING:
    from reportlab.graphics.shapes import Drawing
    from reportlab.platypus import Flowable

_COLOURS = {
    "grid": "#dfe4ea",
    "clear": "#8fa3bb",
    "review": "#d99a1c",
    "flag": "#b4460f",
    "cost": "#2563c9",
}
_INK, _FAINT = "#1c2430", "#5d6877"
_MARGIN = 48
_ROOM = 595 - 2 * _MARGIN
_SIZE = 8.5
_FONT, _BOLD = "Helvetica", "Helvetica-Bold"


def pdf(page: Page) -> bytes:
    """Return the page, PDF on A4. Raises MissingExtra."""
    if find_spec("reportlab") is None:
        detail = "A PDF needs reportlab, which is not installed."
        raise MissingExtra(
            detail, mend="Install it: pip install 'discern-detectors[reports]', or take --format html.", extra="reports"
        )
    from reportlab.platypus import SimpleDocTemplate  # noqa: PLC0415 - in an extra

    written = BytesIO()
    document = SimpleDocTemplate(
        written,
        pagesize=(595, 842),
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=_known(f"{page.title}, {page.period}"),
        author="Discern",
    )
    document.build(list(_flow(page)), onFirstPage=_number, onLaterPages=_number)
    return written.getvalue()


def _number(canvas: Any, document: Any) -> None:  # noqa: ANN401 - reportlab's own
    canvas.setFont(_FONT, 8)
    canvas.setFillColor(_FAINT)
    canvas.drawRightString(595 - _MARGIN, _MARGIN / 2, str(document.page))


def _flow(page: Page) -> Iterator[Flowable]:
    from reportlab.platypus import CondPageBreak, Spacer  # noqa: PLC0415 - in an extra

    yield _paragraph(page.title, 16, bold=True)
    yield _paragraph(page.period, 9, colour=_FAINT)
    yield Spacer(1, 8)
    yield _paragraph(page.lead, 11)
    yield Spacer(1, 4)
    for one in page.attention:
        yield _paragraph(f"- {one}", 9.5, colour=_COLOURS["flag"])
    for section in page.sections:
        # A heading does not stand alone at the foot of a page.
        yield CondPageBreak(90)
        yield Spacer(1, 10)
        yield _paragraph(section.heading, 12, bold=True)
        yield Spacer(1, 3)
        for part in section.parts:
            if isinstance(part, str):
                yield _paragraph(part, 9.5)
            elif isinstance(part, Chart):
                yield _drawing(part)
            elif part.rows:
                yield _table(part)
            yield Spacer(1, 5)
    yield Spacer(1, 10)
    yield _paragraph(page.foot, 8, colour=_FAINT)


def _paragraph(text: str, size: float, *, bold: bool = False, colour: str = _INK, right: bool = False) -> Flowable:
    from reportlab.lib.colors import HexColor  # noqa: PLC0415 - in an extra
    from reportlab.lib.styles import ParagraphStyle  # noqa: PLC0415 - likewise
    from reportlab.platypus import Paragraph  # noqa: PLC0415 - likewise

    style = ParagraphStyle(
        "text",
        fontName=_BOLD if bold else _FONT,
        fontSize=size,
        leading=size * 1.35,
        textColor=HexColor(colour),
        alignment=2 if right else 0,
        splitLongWords=True,
    )
    return Paragraph(escape(_known(text)), style)


def _table(grid: Grid) -> Flowable:
    from reportlab.lib.colors import HexColor  # noqa: PLC0415 - in an extra
    from reportlab.pdfbase.pdfmetrics import stringWidth  # noqa: PLC0415 - likewise
    from reportlab.platypus import Table, TableStyle  # noqa: PLC0415 - likewise

    rows = [grid.head, *grid.rows]
    wanted = [
        max(stringWidth(_known(row[place]), _BOLD, _SIZE) for row in rows) + 14 for place in range(len(grid.head))
    ]
    cells = [
        [
            _paragraph(cell, _SIZE, bold=not number, colour=_INK if number else _FAINT, right=right)
            for cell, right in zip(row, grid.right, strict=True)
        ]
        for number, row in enumerate(rows)
    ]
    line = ("LINEBELOW", (0, 0), (-1, -1), 0.5, HexColor(_COLOURS["grid"]))
    tight = [(side, (0, 0), (-1, -1), 2) for side in ("TOPPADDING", "BOTTOMPADDING")]
    left = ("LEFTPADDING", (0, 0), (-1, -1), 0)
    style = TableStyle([line, *tight, left, ("VALIGN", (0, 0), (-1, -1), "TOP")])
    return Table(cells, columns_fit(wanted, _ROOM), repeatRows=1, hAlign="LEFT", style=style)


def _drawing(chart: Chart) -> Drawing:
    from reportlab.graphics.shapes import Circle, Drawing, PolyLine, Rect, String  # noqa: PLC0415 - in an extra
    from reportlab.lib.colors import HexColor  # noqa: PLC0415 - likewise

    found = Drawing(WIDTH, HEIGHT)
    for shape in shapes(chart):
        if isinstance(shape, Line):
            places = [one for x, y in shape.points for one in (x, HEIGHT - y)]
            thick = 0.5 if shape.colour == "grid" else 1.5
            found.add(PolyLine(places, strokeColor=HexColor(_COLOURS[shape.colour]), strokeWidth=thick))
        elif isinstance(shape, Box):
            colour = HexColor(_COLOURS[shape.colour])
            place = shape.x, HEIGHT - shape.y - shape.height, shape.width, shape.height
            found.add(Rect(*place, fillColor=colour, strokeColor=None))
        elif isinstance(shape, Dot):
            colour = HexColor(_COLOURS[shape.colour])
            found.add(Circle(shape.x, HEIGHT - shape.y, 2.5, fillColor=colour, strokeColor=None))
        else:
            found.add(
                String(
                    shape.x,
                    HEIGHT - shape.y,
                    _known(shape.text),
                    fontName=_FONT,
                    fontSize=10,
                    textAnchor=shape.anchor,
                    fillColor=HexColor(_FAINT),
                )
            )
    scale = _ROOM / WIDTH
    found.width, found.height = WIDTH * scale, HEIGHT * scale
    found.scale(scale, scale)
    return found


def _known(text: str) -> str:
    """Return a text in letters that the font has."""
    return text.encode("cp1252", "replace").decode("cp1252")
