"""The report as somebody reads it: in a browser, in Markdown, as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from discern.core.errors import CallerError, InternalError
from discern.evaluation import report, report_pages
from discern.evaluation.datasets import freeze, write_manifest
from discern.evaluation.journal import Journal
from discern.evaluation.results import BandFacts, BandsFacts, Result, Timings
from discern.evaluation.service import Parts, look, run
from discern.evaluation.types import Estimate
from tests.evaluation.conftest import asked, flat, make_folder
from tests.http.browser import chromium


@pytest.fixture
def both(parts: Parts, pictures: Path, tmp_path: Path) -> tuple[Result, Timings]:
    """Two datasets, one of them with a hostile name, beside another detector."""
    other = make_folder(tmp_path / "<script>alert(1)|*x*", 20, seed=500)
    flat(other / "bright" / "<img src=x onerror=alert(2)>.png", 20, 7)
    question = asked(tmp_path / "out", pictures, other, compare="toy-image")
    found, timings = run(question, look(question, parts), parts, Journal(tmp_path / "out"), lambda _: None)
    return report.rounded(found), report.rounded(timings)


@pytest.fixture
def result(both: tuple[Result, Timings]) -> Result:
    return both[0]


def test_the_page_loads_nothing_runs_nothing_and_fits_a_telephone(both: tuple[Result, Timings], tmp_path: Path) -> None:
    page = report_pages.html(*both)
    text = page.decode()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<img src=x" not in text
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)
    (tmp_path / "report.html").write_bytes(page)
    with chromium(tmp_path / "browser") as browser:
        browser.call("Page.enable")
        for width in (400, 1400):
            browser.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
            )
            browser.open((tmp_path / "report.html").as_uri())
            assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            assert browser.run("performance.getEntriesByType('resource').length") == 0
            assert browser.run("document.querySelector('.verdict').getBoundingClientRect().top") < 300
            tables = "[...document.querySelectorAll('table')]"
            assert browser.run(f"{tables}.length") > 6
            assert browser.run(f"{tables}.every(table => table.caption && table.caption.textContent.length > 20)")
            hidden = f"{tables}.filter(t => t.caption.firstElementChild.getBoundingClientRect().right > innerWidth)"
            assert browser.run(f"{hidden}.length") == 0


def test_a_table_that_goes_on_at_the_side_shows_it_there_and_what_decides_is_seen_on_a_telephone(
    both: tuple[Result, Timings], tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_bytes(report_pages.html(*both))
    with chromium(tmp_path / "browser") as browser:
        browser.call("Page.enable")
        browser.call("Emulation.setDeviceMetricsOverride", width=400, height=900, deviceScaleFactor=1, mobile=False)
        browser.open((tmp_path / "report.html").as_uri())
        outcomes = "[...document.querySelectorAll('table')].filter(t => t.caption.innerText.startsWith('What becomes'))"
        last = f"{outcomes}.map(t => t.rows[0].cells[t.rows[0].cells.length - 1].getBoundingClientRect().right)"
        rights = browser.run(last)
        assert len(rights) == 2
        assert max(rights) <= 400
        wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
        assert browser.run(f"{wide}.length") > 0
        assert browser.run(f"{wide}.every(e => getComputedStyle(e).backgroundImage.split('gradient').length === 5)")


def test_the_page_says_the_thresholds_of_every_band_and_the_variant_that_ran(both: tuple[Result, Timings]) -> None:
    result, timings = both
    bands = BandsFacts("amount", (BandFacts(50.0, 0.043, 0.753), BandFacts(100.0, 0.024, 0.667)))
    facts = msgspec.structs.replace(result.detector, bands=bands, variant="int8")
    page = report_pages.html(msgspec.structs.replace(result, detector=facts), timings).decode()
    first, second = "flags from 0.753 and clears below 0.043", "flags from 0.667 and clears below 0.024"
    assert f"but by amount: from 50 on it {first}; from 100 on it {second}. Its variant int8 was measured" in page
    assert page.count('<line class="threshold"') == 2 * 6
    assert "in every band of amount" in page
    plain = report_pages.html(result, timings).decode()
    assert plain.count('<line class="threshold"') == 2 * 2
    assert "Its variant" not in plain


def test_every_figure_of_the_page_is_in_the_json(result: Result) -> None:
    tree = json.loads(report.canonical(result))
    assert tree["verdict"] == result.verdict
    assert list(tree)[:2] == ["format", "verdict"]
    verdicts = {one["comparison"]["verdict"] for one in tree["compared"]}
    assert verdicts <= {"better", "worse", "not distinguishable"}
    assert len(tree["cross"]) == 4
    assert msgspec.convert(tree, Result) == result
    longest = max(len(number) for number in re.findall(r"(?<=[ \[])\d\.\d+", report.canonical(result).decode()))
    assert longest <= len("0.000123456")


def test_the_markdown_has_no_markup_of_the_data(result: Result) -> None:
    text = report_pages.markdown(result).decode()
    assert all(line.startswith("    discern evaluate ") for line in text.splitlines() if "<script>" in line)
    assert r"\|\*x\*" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(re.sub(r"\\\|", "", line).endswith("|") for line in tables)
    assert result.detector.bundle_sha256 in text


def test_a_figure_that_is_no_number_is_never_written(result: Result) -> None:
    broken = msgspec.structs.replace(
        result,
        datasets=(msgspec.structs.replace(result.datasets[0], metrics={"auc": Estimate(float("nan"))}),),
    )
    with pytest.raises(InternalError, match="metrics/auc/value is nan"):
        report.canonical(broken)


def test_pictures_of_inputs_are_shown_when_asked_for_and_never_where_they_may_not(
    parts: Parts, pictures: Path, tmp_path: Path
) -> None:
    flat(pictures / "bright" / "mistake.png", 0, 1)
    question = asked(tmp_path / "out", pictures)
    assert b"data:image" not in report_pages.html(
        *run(question, look(question, parts), parts, Journal(tmp_path / "out"), lambda _: None)
    )
    shown = replace(question, show_inputs=True)
    found, timings = run(shown, look(shown, parts), parts, Journal(tmp_path / "out"), lambda _: None)
    assert "bright/mistake.png" in [mistake.id for mistake in found.datasets[0].mistakes]
    assert b"data:image/jpeg;base64," in report_pages.html(found, timings)
    assert found.command == "discern evaluate toy-cascade --data pictures --show-inputs --seed 1"
    frozen = pictures / "hidden.json"
    write_manifest(frozen, freeze(pictures, "folder", {"positive": "bright"}, may_be_shown=False))
    with pytest.raises(CallerError, match="may not be shown"):
        look(replace(shown, data=(str(frozen),)), parts)
