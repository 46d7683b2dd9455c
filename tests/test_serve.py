"""The server as those who ask it see it: who is let in, what it answers, and that it cannot write."""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from databases import url  # noqa: F401 - a fixture
from made_up import made_up_study
from served import ask, serving
from test_store import trial
from trueoracle import Study
from trueoracle.serve.guard import HEADERS
from trueoracle.serve.query import AddressError, trials_query
from trueoracle.serve.server import is_loopback, listen
from trueoracle.store import Piece, Store, StudyRecord
from trueoracle.store.browse import SORTS, Order, TrialFilter, all_trials, count_trials, page_of_trials
from trueoracle.words.errors import StoreError, TableError
from trueoracle.words.trial import Outcome

TOKEN = "a-token-of-twenty-bytes"


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, StudyRecord]:
    place = f"sqlite:///{tmp_path_factory.mktemp('served') / 'store.db'}"
    return place, made_up_study(Store(place, create=True), 150)


@pytest.fixture(scope="module")
def address(made_up: tuple[str, StudyRecord]) -> Iterator[str]:
    with serving(made_up[0]) as address:
        yield address


# --- Who is let in ---------------------------------------------------------------------------------------------------


def test_every_answer_forbids_scripts_of_others_and_frames(address: str) -> None:
    for path in ("/", "/static/serve.js", "/studies/nonsense", "/nowhere"):
        _, headers, _ = ask(address, path)
        assert {name.lower(): headers[name.lower()] for name in HEADERS} == {k.lower(): v for k, v in HEADERS.items()}
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost@evil", "[::2]"]
)
def test_a_name_that_is_not_ours_is_refused(address: str, host: str) -> None:
    status, _, words = ask(address, headers={"Host": host})
    assert status in (400, 421)
    assert "Studies" not in words


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000"])
def test_this_machine_may_be_called_by_all_its_names(address: str, host: str) -> None:
    assert ask(address, headers={"Host": host})[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_answered(address: str, method: str) -> None:
    assert ask(address, method=method)[0] in (400, 405)


def test_requests_are_short(address: str) -> None:
    assert ask(address, "/?" + "x" * 5000)[0] == 414
    assert ask(address, "/" + "x" * 5000)[0] == 414
    assert ask(address, body="x" * 100)[0] == 413
    assert ask(address, headers={"Cookie": "x" * 30_000})[0] in (400, 431)


def test_half_a_request_does_not_keep_a_place(
    made_up: tuple[str, StudyRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trueoracle.serve.server.PATIENCE", 0.3)
    with serving(made_up[0]) as address:
        place = urlsplit(address)
        for begun in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"nonsense"):
            with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
                connection.sendall(begun)
                while connection.recv(1000):
                    pass
        assert ask(address)[0] == 200


def test_beyond_this_machine_a_token_is_demanded(made_up: tuple[str, StudyRecord]) -> None:
    with serving(made_up[0], host="0.0.0.0", token=TOKEN, names=["lab.example"]) as address:
        assert address.endswith(f"/?token={TOKEN}")
        at = {"Host": "lab.example"}
        for path in ("/", "/static/serve.js", "/events", "/nowhere"):
            assert ask(address, path, headers=at)[0] == 401
        for wrong in ("", "x", TOKEN[:-1], TOKEN + "x", "ä"):
            assert ask(address, "/?" + urlencode({"token": wrong}), headers=at)[0] == 401
            assert ask(address, headers={**at, "Authorization": f"Bearer {wrong}".encode().decode("latin-1")})[0] == 401
        assert ask(address, headers={**at, "Authorization": f"Bearer {TOKEN}"})[0] == 200
        status, headers, _ = ask(address, f"/studies/x?token={TOKEN}&a=1", headers=at)
        assert (status, headers["location"]) == (303, "/studies/x?a=1")
        cookie = headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
        assert ask(address, headers={**at, "Cookie": cookie.partition(";")[0]})[0] == 200
        assert ask(address, f"//evil.example/?token={TOKEN}", headers=at)[1]["location"] == "/evil.example/"
        assert ask(address, headers={"Host": "evil.example", "Authorization": f"Bearer {TOKEN}"})[0] == 421


def test_a_token_is_made_up_where_none_is_given_and_must_be_long() -> None:
    with pytest.raises(StoreError, match="a token must have at least 16 characters, but got 5"):
        listen("sqlite:///nowhere.db", host="0.0.0.0", token="short")
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.1", "lab.example")] == [False] * 4


def test_made_up_tokens_differ(made_up: tuple[str, StudyRecord]) -> None:
    with serving(made_up[0], host="0.0.0.0") as one, serving(made_up[0], host="0.0.0.0") as other:
        assert one.partition("?")[2] != other.partition("?")[2]
        assert len(one.partition("=")[2]) >= 32


# --- What it reads ---------------------------------------------------------------------------------------------------


def test_the_store_cannot_be_written_through_it(made_up: tuple[str, StudyRecord], tmp_path: Path) -> None:
    store = Store.for_reading(made_up[0], 5)
    with pytest.raises(StoreError, match="read-only"):
        store.add_study(StudyRecord(digest="x" * 64, name="x", spec="{}"))
    with pytest.raises(StoreError, match="there is no store"):
        Store.for_reading(f"sqlite:///{tmp_path / 'none.db'}", 5)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="is no store: a store is named like"):
        Store.for_reading("mysql://host/name", 5)
    with pytest.raises(StoreError, match="is no file"):
        Store.for_reading("sqlite://", 5)


def test_the_pages_are_the_same_over_either_database(url: str) -> None:  # noqa: F811
    study = made_up_study(Store(url, create=True), 12).digest
    with serving(url) as address:
        for path in ("", "/trials", "/trials.csv", "/cells/0"):
            status, _, words = ask(address, f"/studies/{study}{path}")
            assert (status, path) == (200, path)
            assert "conv1-0.5" in words
        assert "made-up" in ask(address)[2]


def test_who_is_at_work_stands_on_the_page(url: str) -> None:  # noqa: F811
    store = Store(url, create=True)
    study = made_up_study(store, 12, retrained=6).digest
    with serving(url) as address:
        assert "pieces in work" not in ask(address, f"/studies/{study}")[2]
        store.open_stage(
            study, "retraining", lambda: [Piece(cell=0, start=start, stop=start + 2) for start in (0, 2, 4)]
        )
        run = store.begin_run(study, 1, {}, "one<b>")
        time.sleep(0.01)
        store.put_trials(study, [trial(Outcome.FINISHED, mask=mask) for mask in (900, 901)], 3, run)
        for worker, seconds in (("one<b>", 60.0), ("one<b>", 60.0), ("dead", -5.0)):
            store.claim(study, "retraining", worker, seconds=seconds)
        words = ask(address, f"/studies/{study}")[2]
        assert "2 workers" in words
        assert 'one&lt;b&gt;</th><td data-label="pieces in work">2</td><td data-label="of">retraining' in words
        assert 'data-label="trials stored">2</td><td data-label="rate">' in words
        assert 'data-label="trials stored">0</td>' in words, "of the one that stored nothing"
        assert "no more: late" in words


def test_a_study_is_written_while_it_is_looked_at(finished: Study) -> None:
    """A reader holds no lock that a writer waits for."""
    with serving(finished.store_url) as address:
        assert ask(address)[0] == 200
        store = Store(finished.store_url)
        before = time.monotonic()
        run = store.begin_run(finished.plan.digest, 1, {})
        assert time.monotonic() - before < 30  # a writer that is kept waiting gives up after a minute
        assert run > 0


@pytest.mark.parametrize("name", sorted(SORTS))
@pytest.mark.parametrize("falling", [False, True])
def test_pages_in_every_order_hold_every_trial_once(
    made_up: tuple[str, StudyRecord], name: str, *, falling: bool
) -> None:
    store, study = Store.for_reading(made_up[0], 5), made_up[1].digest
    pages = [
        page_of_trials(store, study, TrialFilter(), Order(by=name, falling=falling), start=s, rows=70)
        for s in range(0, 350, 70)
    ]
    rows = [row for page in pages for row in page]
    assert len({(row.cell, row.mask, row.repeat) for row in rows}) == len(rows) == 300
    if name not in ("outcome", "cell"):
        values = [getattr(row, name) for row in rows]
        known = [value for value in values if value is not None]
        assert known == sorted(known, reverse=falling)
        assert values[len(known) :] == [None] * (len(values) - len(known))


def test_filters_let_through_what_the_table_of_all_trials_says(made_up: tuple[str, StudyRecord]) -> None:
    store, study = Store.for_reading(made_up[0], 5), made_up[1].digest
    table = store.trial_table(study)
    low, high = table["pruned_train_loss"].quantile([0.3, 0.6])
    accurate = table["final_test_accuracy"].median()
    mask = int(table["mask"].iloc[7])
    for which, expected in (
        (TrialFilter(cells=(1,)), table["cell"] == "conv2-0.25"),
        (TrialFilter(loss=(low, high)), table["pruned_train_loss"].between(low, high)),
        (TrialFilter(accuracy=(accurate, None)), table["final_test_accuracy"] >= accurate),
        (TrialFilter(loss=(low, None), accuracy=(None, accurate), cells=(0,)),
         (table["pruned_train_loss"] >= low) & (table["final_test_accuracy"] <= accurate) & (table["cell"] == "conv1-0.5")),
        (TrialFilter(mask=mask), table["mask"] == mask),
        (TrialFilter(outcome=Outcome.DIVERGED), table["outcome"] == Outcome.DIVERGED.value),
    ):  # fmt: skip
        ours = [row for part in all_trials(store, study, which, 17) for row in part]
        assert [row.mask for row in ours] == table["mask"][expected].tolist()
        assert [row.final_test_accuracy for row in ours] == table["final_test_accuracy"][expected].tolist()
        assert count_trials(store, study, which) == expected.sum()


def test_an_address_says_what_is_wrong_with_it(address: str, made_up: tuple[str, StudyRecord]) -> None:
    at = f"/studies/{made_up[1].digest[:12]}"
    for query, sentence in (
        ("cell=conv9", "unknown cell `conv9`"),
        ("outcome=won", "unknown outcome `won`"),
        ("mask=-1", "a mask is named by its rank"),
        ("mask=²", "a mask is named by its rank"),
        ("loss_from=x", "`loss_from` must be a number, but got `x`"),
        ("loss_from=nan", "`loss_from` must be a number"),
        ("loss_from=2&loss_to=1", "`loss_from` must be at most `loss_to`, but got 2 and 1"),
        ("sort=pruned", "unknown column to sort by `pruned`"),
        ("rows=100000", "`rows` must lie in [1, 500], but got `100000`"),
        ("page=0", "`page` must lie in"),
    ):
        status, _, words = ask(address, f"{at}/trials?" + urlencode(dict(part.split("=") for part in query.split("&"))))
        assert (status, sentence in words) == (400, True)
    assert ask(address, f"{at}/trials?page=999999")[0] == 200
    for path in (
        "/studies/nonsense",
        f"{at}/cells/77/masks/1",
        f"{at}/cells/0/masks/{'9' * 30}",
        "/static/../guard.py",
        "/static/base.html",
    ):
        assert ask(address, path)[0] == 404
    assert ask(address, f"{at}/cells/0/masks/x")[0] == 400


def test_what_an_address_says_is_shown_as_words(address: str, made_up: tuple[str, StudyRecord]) -> None:
    evil = "<script>alert(1)</script>\"'"
    for path in (
        f"/studies/{made_up[1].digest[:12]}/trials?{urlencode({'cell': evil})}",
        f"/studies/{made_up[1].digest[:12]}/trials?{urlencode({'mask': evil})}",
    ):
        _, _, words = ask(address, path)
        assert "<script>alert" not in words
        assert "&lt;script&gt;alert" in words


def test_names_out_of_a_store_are_shown_as_words(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path / 'evil.db'}"
    store = Store(place, create=True)
    record = made_up_study(store, 5)
    other = record.parsed.model_copy(update={"seed": 7})
    evil = StudyRecord(digest=other.digest(), name="<img src=x onerror=alert(1)>", spec=json.dumps(other.facts()))
    store.add_study(evil)
    store.add_study(StudyRecord(digest="f" * 64, name="unread", spec='{"nonsense": "<b>"}'))
    with serving(place) as address:
        status, _, words = ask(address)
        assert status == 200
        assert "<img" not in words
        assert "&lt;img src=x" in words
        assert "unread cannot be read" in words
        assert ask(address, f"/studies/{evil.digest[:12]}")[0] == 200
        assert ask(address, "/studies/ffffffffffff")[0] != 500


def test_pages_hold_no_script_but_ours(address: str, made_up: tuple[str, StudyRecord]) -> None:
    at = f"/studies/{made_up[1].digest[:12]}"
    for path in ("/", at, f"{at}/trials"):
        words = ask(address, path)[2]
        assert set(re.findall(r"<script(?![^>]*\bsrc=)[^>]*>", words)) <= {
            '<script type="application/json" class="data">'
        }
        assert re.findall(r"\sstyle=|\son\w+=|<style", words) == []
        assert all(source.startswith("/static/") for source in re.findall(r'(?:src|<link[^>]*href)="([^"]*)"', words))


def test_a_query_and_its_address_say_the_same(made_up: tuple[str, StudyRecord]) -> None:
    from starlette.datastructures import QueryParams

    cells = Store.for_reading(made_up[0], 5).cells(made_up[1].digest)
    query = trials_query(QueryParams("cell=conv1-0.5&loss_to=0.5&sort=-mask&page=3&nonsense=1&mask="), cells)
    assert query.address(page=4) == "?cell=conv1-0.5&loss_to=0.5&sort=-mask&page=4"
    assert query.sorted_by("mask") == "?cell=conv1-0.5&loss_to=0.5&sort=mask"
    assert query.sorted_by("seconds") == "?cell=conv1-0.5&loss_to=0.5&sort=seconds"
    assert trials_query(QueryParams(query.address(page=3)[1:]), cells) == query
    with pytest.raises(AddressError):
        trials_query(QueryParams("rows=0"), cells)


def test_a_place_that_is_taken_is_said(address: str, made_up: tuple[str, StudyRecord]) -> None:
    port = urlsplit(address).port
    assert port is not None
    with pytest.raises(StoreError, match=f"cannot listen at 127.0.0.1, port {port}: Address already in use"):
        listen(made_up[0], port=port)
    with pytest.raises(StoreError, match="`port` must lie in"):
        listen(made_up[0], port=70000)
    with pytest.raises(StoreError, match="cannot listen at nowhere.invalid"):
        listen(made_up[0], host="nowhere.invalid", port=0)


def test_landscapes_are_those_named_and_must_be_some(made_up: tuple[str, StudyRecord], tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no landscape `.*none.parquet`"):
        listen(made_up[0], port=0, landscapes=[tmp_path / "none.parquet"])
    for name, content, sentence in (
        ("a.parquet", b"nonsense", "cannot be read"),
        ("a.csv", b"mask,pruned\n1,2\n", "has no column `pruned_train_accuracy`"),
        ("a.txt", b"x", "is a .parquet or .csv file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TableError, match=re.escape(sentence)):
            listen(made_up[0], port=0, landscapes=[tmp_path / name])


def test_files_of_trials_come_as_those_kinds_that_there_are(address: str, made_up: tuple[str, StudyRecord]) -> None:
    at = f"/studies/{made_up[1].digest[:12]}"
    assert ask(address, f"{at}/trials.pickle")[0] == 404
    status, headers, words = ask(address, f"{at}/trials.csv?mask=0")
    assert (status, len(words.splitlines())) == (200, 1)
    assert headers["content-disposition"] == 'attachment; filename="made-up-trials.csv"'
    assert ask(address, "/compare?" + "study=x&" * 13)[0] == 404
    assert ask(address, "/compare?" + "&".join(f"study=x{n}" for n in range(13)))[0] == 400
