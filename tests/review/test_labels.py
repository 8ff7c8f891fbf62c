"""A label is kept as it came, once, and about verdicts of one's own; what is said later takes its place."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from discern.access.types import Principal, Role
from discern.app import Services, build_services
from discern.app_http import create_app
from discern.core.errors import CallerError, UnknownVerdict
from discern.core.ids import uuid7
from discern.core.verdict import Decision, Verdict
from discern.detection import store
from discern.detection.types import LedgerEntry
from discern.review.rules import draw_of
from discern.review.types import LabelLine, LabelRequest, Taken
from discern.settings import load_settings
from tests.commands import Run
from tests.detection.test_ledger import verdict

pytestmark = pytest.mark.system
OWNER = Principal("key:1", "default", "owner")
CLASSES = ("fine", "odd")


@pytest.fixture
def services(services: Services) -> Services:
    services.workspaces.create("other")
    return services


def kept(services: Services, workspace: str = "default", decision: Decision = "flag", **changes: Any) -> Verdict:
    """A verdict on the ledger."""
    made = msgspec.structs.replace(verdict(workspace, "toy-record", decision), **changes)
    services.verdicts.append([LedgerEntry(made, "key:1")])
    return made


def say(services: Services, about: Verdict, label: str | None, **rest: Any) -> tuple[Any, bool]:
    by = msgspec.structs.replace(OWNER, workspace=about.workspace)
    return services.labels.label(UUID(about.id), LabelRequest(label=label, **rest), by)


def said(services: Services, about: Verdict) -> list[tuple[int, str | None, str]]:
    history = services.labels.history(about.workspace, UUID(about.id))
    return [(one.number, one.label, one.source) for one in history.labels]


def key(services: Services, role: Role = "owner", workspace: str = "default", detectors: Any = None) -> TestClient:
    client = TestClient(create_app(services), raise_server_exceptions=False)
    secret = services.keys.issue(workspace, "test", role=role, detectors=detectors).secret
    client.headers["Authorization"] = f"Bearer {secret}"
    return client


def acts(services: Services, workspace: str = "default") -> list[Any]:
    entries = services.audit_store.page(workspace, 50, None).entries
    return [entry.act for entry in entries if entry.act.act == "verdicts.label"]


def test_what_is_said_later_takes_its_place_and_all_of_it_stays(two_workspaces: Services) -> None:
    services = two_workspaces
    about = kept(services)
    say(services, about, "odd")
    say(services, about, None, source="appeal")
    say(services, about, "unknown", source="chargeback")
    last, was_known = say(services, about, "fine", source="appeal", note="the invoice was found")
    assert not was_known
    assert said(services, about) == [
        (1, "odd", "reviewer"), (2, None, "appeal"), (3, None, "chargeback"), (4, "fine", "appeal"),
    ]  # fmt: skip
    assert (last.number, last.by, last.note) == (4, "key:1", "the invoice was found")
    (held,) = services.labels.store.judged("default", "toy-record", datetime(2020, 1, 1, tzinfo=UTC))
    assert (held.positive, held.source, held.decision, held.score) == (False, "appeal", "flag", about.score)


def test_the_same_label_twice_is_one_and_a_file_that_is_taken_twice_too(two_workspaces: Services) -> None:
    services = two_workspaces
    about = kept(services)
    when = datetime.now(UTC) - timedelta(hours=3)
    lines = [
        LabelLine(verdict_id=UUID(about.id), label="odd", source="reviewer"),
        LabelLine(verdict_id=UUID(about.id), label="fine", source="chargeback", labelled_at=when),
        LabelLine(verdict_id=UUID(about.id), label="odd", source="chargeback", labelled_at=when + timedelta(hours=1)),
        LabelLine(verdict_id=UUID(about.id), label="fine", source="chargeback", labelled_at=when + timedelta(hours=2)),
    ]
    assert services.labels.take(lines, OWNER) == Taken(4, 0, 0, ())
    assert services.labels.take(lines, OWNER) == Taken(0, 4, 0, ())
    assert len(said(services, about)) == 4
    first, was_known = say(services, about, "odd")
    assert was_known
    assert first.number == 1
    assert not say(services, about, "fine")[1]  # another word of the reviewer's
    assert not say(services, about, "odd")[1]  # and back
    assert [number for number, *_ in said(services, about)] == [1, 2, 3, 4, 5, 6]


def test_threads_that_say_the_same_at_the_same_time_leave_one_label(two_workspaces: Services) -> None:
    services = two_workspaces
    about = kept(services)
    other = build_services(services.settings)
    other.open()
    failures: list[BaseException] = []

    def label(parts: Services, word: str) -> None:
        try:
            say(parts, about, word, source=word)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [
        threading.Thread(target=label, args=(parts, word)) for parts in (services, other) for word in CLASSES * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert failures == []
    history = said(services, about)
    assert [number for number, *_ in history] == [1, 2]
    assert {label for _, label, _ in history} == set(CLASSES)
    assert sum(one.labels for one in services.labels.store.counts()) == 2


def test_many_who_label_the_same_verdicts_at_once_in_any_order_are_all_heard(two_workspaces: Services) -> None:
    services = two_workspaces
    abouts = [kept(services) for _ in range(10)]
    failures: list[BaseException] = []

    def label(number: int) -> None:
        ordered = abouts if number % 2 else abouts[::-1]
        source = f"team-{number}"
        lines = [LabelLine(verdict_id=UUID(one.id), label=CLASSES[number % 2], source=source) for one in ordered]
        try:
            assert services.labels.take(lines, OWNER) == Taken(10, 0, 0, ())
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=label, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for about in abouts:
        history = said(services, about)
        assert [number for number, *_ in history] == list(range(1, 17))
        assert {source for *_, source in history} == {f"team-{number}" for number in range(16)}
    assert sum(one.labels for one in services.labels.store.counts()) == 160


def test_a_label_of_no_class_or_time_or_selection_is_refused_and_nothing_is_kept(services: Services) -> None:
    about = kept(services)
    now = datetime.now(UTC)
    for wrong, words in (
        ({"label": "strange"}, "no class of the detector"),
        ({"label": "odd", "labelled_at": now + timedelta(days=1)}, "ahead of the server's clock"),
        ({"label": "odd", "labelled_at": now.replace(year=1970)}, "before the year 2000"),
        ({"label": "odd", "selected_by": "sampled"}, "needs the probability"),
        ({"label": "odd", "propensity": 0.5}, "without how the verdict was selected"),
        ({"label": "odd", "selected_by": "holdout"}, "not in the random hold-out"),
    ):
        with pytest.raises(CallerError, match=words):
            services.labels.label(UUID(about.id), LabelRequest(**wrong), OWNER)
    assert said(services, about) == []
    assert acts(services) == []
    assert services.labels.store.counts() == []


def test_an_unknown_verdict_and_one_of_others_are_refused_by_the_same_words(services: Services) -> None:
    theirs, nobodys = kept(services, "other"), uuid7()
    for door in (key(services), key(services, "service"), key(services, "reviewer")):
        answers = [door.post(f"/v1/verdicts/{one}/label", json={"label": "odd"}) for one in (theirs.id, nobodys)]
        assert [one.status_code for one in answers] == [404, 404]
        bodies = [one.text.replace(theirs.id, "ID").replace(str(nobodys), "ID") for one in answers]
        assert bodies[0] == bodies[1]
        assert [door.get(f"/v1/verdicts/{one}/labels").status_code for one in (theirs.id, nobodys)] == [404, 404]
    lines = "".join(json.dumps({"verdict_id": str(one), "label": "odd"}) + "\n" for one in (theirs.id, nobodys))
    found = key(services).post("/v1/labels", content=lines).json()
    assert (found["taken"], found["refusals"]) == (0, 2)
    assert [(one["line"], one["code"]) for one in found["refused"]] == [(1, "unknown_verdict"), (2, "unknown_verdict")]
    assert said(services, theirs) == []


def test_who_was_granted_other_detectors_is_told_of_no_verdict(services: Services) -> None:
    about = kept(services)
    stranger = key(services, "reviewer", detectors=("toy-image",))
    assert stranger.post(f"/v1/verdicts/{about.id}/label", json={"label": "odd"}).status_code == 404
    line = json.dumps({"verdict_id": about.id, "label": "odd"})
    found = stranger.post("/v1/labels", content=line).json()
    assert found["refused"][0]["code"] == "unknown_verdict"
    denials = [
        entry.act for entry in services.audit_store.page("default", 50, None).entries if entry.act.outcome == "denied"
    ]
    assert [one.act for one in denials] == ["verdicts.label"] * 2
    granted = key(services, "reviewer", detectors=("toy-record",))
    assert granted.post(f"/v1/verdicts/{about.id}/label", json={"label": "odd"}).status_code == 201


def test_roles_that_may_label_do_and_the_others_do_not(services: Services) -> None:
    about = kept(services)
    answers = {}
    for role in ("owner", "operator", "analyst", "reviewer", "service", "auditor", "device"):
        door = key(services, role)
        answers[role] = door.post(f"/v1/verdicts/{about.id}/label", json={"label": "odd"}).status_code
    assert answers == {
        "owner": 201, "operator": 200, "analyst": 200, "reviewer": 200, "service": 200, "auditor": 403, "device": 403,
    }  # fmt: skip


def test_the_door_answers_what_is_kept_and_says_what_is_wrong(services: Services) -> None:
    about, door = kept(services), key(services)
    path = f"/v1/verdicts/{about.id}/label"
    answer = door.post(path, json={"label": "odd", "source": "chargeback", "labelled_at": "2026-01-02T03:04:05+02:00"})
    assert answer.status_code == 201
    assert answer.json()["labelled_at"] == "2026-01-02T01:04:05Z"
    assert door.post(path, json={"label": None}).json()["label"] is None
    assert [one["label"] for one in door.get(f"{path}s").json()["labels"]] == ["odd", None]
    for wrong in (
        {}, {"label": 1}, {"label": "odd", "extra": 1}, {"label": "odd", "source": "A b"},
        {"label": "odd", "propensity": 0}, {"label": "odd", "selected_by": "sampled", "propensity": 1e-300},
        {"label": "odd", "labelled_at": "2026-01-02T03:04:05"}, {"label": "odd", "note": "x" * 1001},
        {"label": "odd", "selected_by": "whim"},
    ):  # fmt: skip
        found = door.post(path, json=wrong)
        assert (found.status_code, found.json()["code"]) == (400, "malformed_request"), wrong
    assert len(said(services, about)) == 2


def test_many_lines_are_taken_and_those_that_cannot_be_are_told(two_workspaces: Services) -> None:
    services = two_workspaces
    about = [kept(services) for _ in range(5)]
    good = [json.dumps({"verdict_id": one.id, "label": "odd", "selected_by": "flagged"}) for one in about]
    bad = ["{", "[]", '{"verdict_id": "7", "label": "odd"}', json.dumps({"verdict_id": about[0].id}),
           json.dumps({"verdict_id": about[0].id, "label": "strange"})]  # fmt: skip
    found = key(services).post("/v1/labels", content="\n".join([good[0], "", *bad, *good[1:], good[0]])).json()
    assert (found["taken"], found["known"], found["refusals"]) == (5, 1, 5) or (found["taken"], found["known"]) == (
        5,
        1,
    )
    assert [one["line"] for one in found["refused"]] == [2, 3, 4, 5, 6]
    assert all(one["detail"] and one["mend"] for one in found["refused"])
    (act,) = acts(services)
    assert (act.target, act.after) == ("workspace:default", {"labels": 5, "sources": ["reviewer"]})


def test_a_body_of_too_many_lines_or_bytes_is_refused_before_it_is_read(services: Services) -> None:
    small = build_services(load_settings({"DISCERN_HOME": str(services.settings.home), "DISCERN_BATCH_RECORDS": "3",
                                          "DISCERN_LABEL_BYTES": "500"}))  # fmt: skip
    small.open()
    door = key(small)
    line = json.dumps({"verdict_id": str(uuid7()), "label": "odd"}) + "\n"
    assert door.post("/v1/labels", content=line * 3).status_code == 200
    many, long = door.post("/v1/labels", content="{}\n" * 4), door.post("/v1/labels", content=line * 30)
    assert [(one.status_code, one.json()["limit"]) for one in (many, long)] == [
        (413, "batch_records"),
        (413, "label_bytes"),
    ]
    small.close()


def test_each_label_is_on_the_audit_log_with_what_was_said_and_never_a_note(services: Services) -> None:
    about = kept(services)
    say(services, about, "odd", note="Ann Smith called")
    say(services, about, "odd", note="Ann Smith called")
    (act,) = acts(services)
    assert (act.who, act.target) == ("key:1", f"verdict:{about.id}")
    assert act.after == {"label": "odd", "source": "reviewer", "selected_by": "unknown"}
    assert "Ann" not in str(act)


def test_labels_get_old_by_a_kind_of_their_own(two_workspaces: Services) -> None:
    services = two_workspaces
    about = kept(services)
    say(services, about, "odd")
    services.retention.change("default", "labels", 30)
    assert [one.rows for one in services.retention.run()] == [0]
    long_ago = UUID(int=uuid7().int - (40 * 86_400_000 << 80))
    with services.database.write() as connection:
        connection.execute(
            text("UPDATE labels SET id = :id"),
            {"id": long_ago.hex if services.database.dialect == "sqlite" else long_ago},
        )
    assert [one.rows for one in services.retention.run()] == [1]
    assert said(services, about) == []
    assert [one.labels for one in services.labels.store.counts()] == [1]  # those that there ever were


# ---- The hold-out --------------------------------------------------------------------------------------------------


@pytest.fixture
def holding(home: Path) -> Any:
    """An installation that holds out a fifth."""
    services = build_services(load_settings({"DISCERN_HOME": str(home), "DISCERN_HOLDOUT_SHARE": "0.2"}))
    services.open()
    yield services
    services.close()


def test_the_hold_out_is_a_share_of_all_and_another_secret_holds_out_others() -> None:
    ids = [uuid7() for _ in range(20_000)]
    draws = [draw_of(b"secret", one) for one in ids]
    assert all(0 <= one < 1 for one in draws)
    assert sum(one < 0.05 for one in draws) / 20_000 == pytest.approx(0.05, abs=0.006)
    # Neither the order of ids nor the hold-out of another secret tells anything.
    first_half = sum(one < 0.05 for one in draws[:10_000]) / 10_000
    both = sum(one < 0.05 and draw_of(b"other", name) < 0.05 for one, name in zip(draws, ids, strict=True)) / 20_000
    assert first_half == pytest.approx(0.05, abs=0.009)
    assert both == pytest.approx(0.0025, abs=0.0015)
    assert draws == [draw_of(b"secret", one) for one in ids]


def test_what_is_wanted_is_held_out_unlabelled_and_not_from_memory_whatever_was_decided(holding: Services) -> None:
    decisions: list[Decision] = ["clear", "review", "flag"]
    there = [kept(holding, decision=decisions[number % 3], cached=number % 7 == 0) for number in range(300)]
    page = holding.labels.wanted("default", limit=500).verdicts
    held_out = [one for one in there if holding.labels.hold_out.holds(UUID(one.id)) and not one.cached]
    assert [one.id for one in page] == [one.id for one in reversed(held_out)]
    assert 20 < len(page) < 90
    decided = {one.id: one.decision for one in there}
    assert {decided[one.id] for one in page} == set(decisions)
    label, _ = say(holding, held_out[-1], "odd", selected_by="holdout")
    assert label.propensity == 0.2
    (known,) = holding.labels.store.judged("default", "toy-record", datetime(2020, 1, 1, tzinfo=UTC))
    assert known.held_out == 0.2
    again = holding.labels.wanted("default", limit=500).verdicts
    assert [one.id for one in again] == [one.id for one in page[1:]]
    first = holding.labels.wanted("default", limit=5)
    second = holding.labels.wanted("default", limit=500, after=UUID(first.next))
    assert first.verdicts + second.verdicts == again
    assert second.next is None
    assert holding.labels.wanted("default", limit=5, detector="toy-image").verdicts == ()


def test_a_label_of_a_held_out_verdict_counts_as_such_whoever_gives_it(holding: Services) -> None:
    there = [kept(holding) for _ in range(60)]
    for one in there:
        say(holding, one, "odd", source="chargeback")
    known = list(holding.labels.store.judged("default", "toy-record", datetime(2020, 1, 1, tzinfo=UTC)))
    held_out = {UUID(one.id) for one in there if holding.labels.hold_out.holds(UUID(one.id))}
    assert {one.verdict_id for one in known if one.held_out == 0.2} == held_out
    assert all(one.selected_by == "unknown" and one.propensity is None for one in known)
    other = next(one for one in there if UUID(one.id) not in held_out)
    with pytest.raises(CallerError, match="not in the random hold-out"):
        say(holding, other, "odd", selected_by="holdout")
    assert say(holding, other, "odd", selected_by="holdout", propensity=1.0)[0].propensity == 1.0  # it was then


def test_without_a_share_nothing_is_wanted_and_no_secret_is_made(services: Services) -> None:
    with pytest.raises(CallerError, match="Nothing is held out"):
        services.labels.wanted("default", limit=5)
    assert not (services.settings.home / "keys" / "holdout.secret").exists()
    assert key(services).get("/v1/labels/wanted").status_code == 400


def test_wanted_over_http_pages_and_shows_granted_detectors_alone(holding: Services) -> None:
    for _ in range(60):
        kept(holding)
    page = key(holding).get("/v1/labels/wanted?limit=3").json()
    assert len(page["verdicts"]) == 3
    assert page["next"] == page["verdicts"][-1]["id"]
    assert not {"decision", "score", "label", "stages"} & {*page["verdicts"][0]}, "nobody is led by what was decided"
    assert key(holding, "reviewer", detectors=("toy-image",)).get("/v1/labels/wanted").json()["verdicts"] == []


def test_the_ledger_tells_all_that_is_held_out_whether_it_has_a_label_or_not(
    holding: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    decisions: list[Decision] = ["clear", "review", "flag"]
    there = [kept(holding, decision=decisions[number % 3], cached=number % 7 == 0) for number in range(300)]
    held_out = [one.id for one in reversed(there) if holding.labels.hold_out.holds(UUID(one.id)) and not one.cached]
    say(holding, next(one for one in there if one.id == held_out[0]), "odd")
    client = key(holding)

    def listed(query: str) -> list[str]:
        found: list[str] = []
        after = ""
        while True:
            page = client.get(f"/v1/verdicts?holdout=true{query}{after}").json()
            found += [one["id"] for one in page["verdicts"]]
            if page["next"] is None:
                return found
            after = f"&after={page['next']}"

    assert 20 < len(held_out) < 90
    assert listed("&limit=500") == listed("&limit=7") == held_out
    flagged = [one.id for one in there if one.decision == "flag"]
    assert listed("&decision=flag") == [one for one in held_out if one in flagged]
    assert listed("&detector=toy-image") == []
    assert key(holding, detectors=("toy-image",)).get("/v1/verdicts?holdout=true").json()["verdicts"] == []
    monkeypatch.setattr(store, "_IDS_A_LOOK", 10)
    monkeypatch.setattr(store, "_MOST_IDS", 20)
    assert listed("&limit=500") == held_out  # pages that look at few are followed by others


def test_without_a_share_the_ledger_says_that_nothing_is_held_out(services: Services) -> None:
    answer = key(services).get("/v1/verdicts?holdout=true")
    assert (answer.status_code, answer.json()["mend"]) == (
        400,
        "Set DISCERN_HOLDOUT_SHARE, such as 0.01, and start again.",
    )


def test_the_command_lists_what_is_held_out(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCERN_HOLDOUT_SHARE", "0.5")
    services = build_services(load_settings({"DISCERN_HOME": str(home), "DISCERN_HOLDOUT_SHARE": "0.5"}))
    services.open()
    there = [kept(services) for _ in range(10)]
    held_out = [one.id for one in reversed(there) if services.labels.hold_out.holds(UUID(one.id))]
    services.close()
    ran = run("verdicts", "list", "--holdout", "--json")
    assert [json.loads(line)["id"] for line in ran.out.splitlines()] == held_out


# ---- Files, and the command line -----------------------------------------------------------------------------------


def test_files_are_imported_and_rows_that_cannot_be_are_told(run: Run, home: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    about = [kept(services) for _ in range(3)]
    services.close()
    table = tmp_path / "labels.csv"
    rows = [f"{about[0].id},odd,chargeback,2026-01-02T00:00:00Z,", f"{about[1].id},unknown,,,0.5", f"{uuid7()},odd,,,",
            f"{about[2].id},,,,", f"{about[2].id},odd"]  # fmt: skip
    table.write_text("verdict_id,label,source,labelled_at,propensity\n" + "\n".join(rows))
    ran = run("label", "import", table)
    assert ran.code == 1
    assert "1 labels are kept, 0 were known, 4 were refused." in ran.out
    assert [line.split(":")[0] for line in ran.err.splitlines()] == ["row 2", "row 3", "row 4", "row 5"]
    parquet = tmp_path / "labels.parquet"
    columns = {"verdict_id": [one.id for one in about], "label": ["odd", "fine", None],
               "labelled_at": [datetime(2026, 1, 2, tzinfo=UTC), None, None],
               "source": ["chargeback", None, None]}  # fmt: skip
    pq.write_table(pa.table(columns), parquet)
    ran = run("label", "import", parquet)
    assert "1 labels are kept, 1 were known, 1 were refused." in ran.out
    assert "row 3: " in ran.err
    shown = json.loads(run("label", "show", about[0].id).out)
    assert [one["source"] for one in shown["labels"]] == ["chargeback"]
    assert run("label", "set", about[0].id, "fine", "--source", "appeal", "--at", "2026-02-03").out.endswith(
        "here on.\n"
    )
    assert run("label", "set", about[0].id, "strange").code == 1


def test_what_comes_before_the_row_at_which_a_file_breaks_off_is_kept_and_told(
    run: Run, home: Path, tmp_path: Path
) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    about = kept(services)
    services.close()
    table = tmp_path / "labels.csv"
    table.write_text(f"verdict_id,label,note\n{about.id},odd,\n{about.id},fine,{'x' * 200_000}\n")
    ran = run("label", "import", table)
    assert ran.code == 1
    assert "1 labels are kept, 0 were known, 1 were refused." in ran.out
    assert ran.err.startswith("row 2: This row and those after it cannot be read: ")
    assert "field larger than field limit" in ran.err


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("labels.txt", "", "neither .csv nor .parquet"),
        ("labels.csv", "id,label\n", "has the column 'id'"),
        ("labels.csv", "verdict_id\n", "lacks the column 'label'"),
        ("labels.csv", "verdict_id,label,label\n", "has the column 'label' twice"),
        ("labels.csv", "\xff\xfe", "has the column"),
        ("labels.parquet", "no such thing", "is no Parquet file"),
    ],
)
def test_a_file_that_is_none_of_labels_is_refused(run: Run, tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    ran = run("label", "import", tmp_path / name)
    assert ran.code == 1
    assert says in ran.err
    assert run("label", "import", tmp_path / "none.csv").code == 1


def test_wanted_is_shown_without_what_was_decided(run: Run, holding: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(40):
        kept(holding)
    monkeypatch.setenv("DISCERN_HOLDOUT_SHARE", "0.2")
    ran = run("label", "wanted", "--limit", "3")
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 4
    assert "flag" not in ran.out
    assert "--after" in ran.err
    lines = run("label", "wanted", "--json").out.splitlines()
    assert {*msgspec.json.decode(lines[0])} == {"id", "detector", "version", "input", "created_at"}


# ---- Subjects ------------------------------------------------------------------------------------------------------


def test_an_erasure_takes_labels_and_their_notes_along_and_an_export_has_them(client: TestClient, home: Path) -> None:
    asked = client.post(
        "/v1/detectors/toy-record/verdicts", json={"a": 1, "b": 0.5, "c": -1}, headers={"Discern-Subject": "ann-1"}
    ).json()
    path = f"/v1/verdicts/{asked['id']}/label"
    assert client.post(path, json={"label": "odd", "note": "Ann Smith called"}).status_code == 201
    assert client.post(path, json={"label": "odd", "note": "Ann Smith called"}).status_code == 200
    found = client.post("/v1/privacy/export", json={"subject": "ann-1"}).json()
    assert [(one["label"], one["note"], one["verdict_id"]) for one in found["labels"]] == [
        ("odd", "Ann Smith called", asked["id"])
    ]
    assert client.get(f"{path}s").json()["labels"][0]["note"] == "Ann Smith called"
    on_disk = b"".join(file.read_bytes() for file in home.glob("discern.db*"))
    assert b"Ann Smith" not in on_disk  # sealed, so that backups are erased too
    done = client.post("/v1/privacy/erase", json={"subject": "ann-1"}).json()
    assert (done["verdicts"], done["labels"]) == (1, 1)
    assert client.get(f"{path}s").status_code == 404


def test_a_label_outlives_its_verdict_and_goes_with_its_subject(client: TestClient, services: Services) -> None:
    asked = client.post(
        "/v1/detectors/toy-record/verdicts", json={"a": 1, "b": 0.5, "c": -1}, headers={"Discern-Subject": "ann-1"}
    ).json()
    client.post(f"/v1/verdicts/{asked['id']}/label", json={"label": "odd"})
    with services.database.write() as connection:
        connection.execute(text("DELETE FROM verdicts"))
        connection.execute(text("DELETE FROM verdict_subjects"))
    release = "default", "toy-record", asked["version"]
    assert len(list(services.labels.store.labelled_verdicts(*release, 10))) == 1
    assert client.post("/v1/privacy/erase", json={"subject": "ann-1"}).json()["labels"] == 1
    assert list(services.labels.store.labelled_verdicts(*release, 10)) == []


def test_what_drift_reads_is_what_holds_and_what_somebody_could_tell(two_workspaces: Services) -> None:
    services = two_workspaces
    first, second, third = kept(services), kept(services), kept(services, "other")
    say(services, first, "fine")
    say(services, first, "odd")
    say(services, second, "unknown")
    say(services, third, "odd")
    release = "default", "toy-record", first.version
    (one,) = services.labels.store.labelled_verdicts(*release, 10)
    assert (one.verdict_id, one.score, one.decision, one.label) == (UUID(first.id), first.score, "flag", True)
    assert list(services.labels.store.labelled_verdicts("default", "toy-record", "9.9.9", 10)) == []
    say(services, second, "odd")
    found = [one.verdict_id for one in services.labels.store.labelled_verdicts(*release, 10)]
    assert found == [UUID(first.id), UUID(second.id)]
    assert [one.verdict_id for one in services.labels.store.labelled_verdicts(*release, 1)] == [UUID(second.id)]
    with pytest.raises(UnknownVerdict):
        services.labels.history("default", UUID(third.id))
