"""Workers share a study through its store: whoever joins or dies, the table is that of one process alone."""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from time import monotonic, sleep

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from databases import url  # noqa: F401 - a fixture
from test_interruption import FACTS, begin, killed, wait_until
from test_store import trial
from trueoracle import Study
from trueoracle.cli.app import app
from trueoracle.store import LEASE_SECONDS, Claim, Piece, Store, StudyRecord
from trueoracle.study.conduct import record_of
from trueoracle.study.sharing import dead_among, sharing
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Quiet
from trueoracle.words.trial import Outcome

DIGEST = "d" * 64
SHORT = {
    **FACTS, "loss_after_steps": 2, "base_networks": 2, "cells": [{"prune": {"conv3": 0.2}, "draw": 20}],
    "train_images": 200, "test_images": 100, "repeats": 1,
}  # fmt: skip
LONG = {**SHORT, "repeats": 6, "retrain": {**FACTS["retrain"], "epochs": 12}}  # 24 fleets to retrain


def written(facts: dict[str, object], folder: Path) -> str:
    path = folder / "short.yaml"
    path.write_text(yaml.safe_dump(facts))
    return str(path)


@pytest.fixture
def facts(tmp_path: Path) -> str:
    return written(SHORT, tmp_path)


@pytest.fixture
def long(tmp_path: Path) -> str:
    return written(LONG, tmp_path)


def calm(facts: str, tmp_path: Path) -> Study:
    study = Study(facts, store=f"sqlite:///{tmp_path / 'calm.db'}", threads=1, progress=Quiet())
    study.run()
    return study


def assert_same(one: Study, other: Study) -> None:
    drop = ["seconds"]
    pd.testing.assert_frame_equal(one.trials().drop(columns=drop), other.trials().drop(columns=drop), check_exact=True)
    pd.testing.assert_frame_equal(one.curves(), other.curves(), check_exact=True)


DRIVE = """
import sys
from trueoracle import Study
from trueoracle.words.progress import Quiet
print(Study(sys.argv[1], store=sys.argv[2], threads=1, progress=Quiet()).run().left)
"""


def test_two_drivers_at_once_give_the_table_of_one(facts: str, tmp_path: Path) -> None:
    """Two processes: while torch traces a network in one, no other network of that process can be run."""
    store = f"sqlite:///{tmp_path / 'shared.db'}"
    drive = [sys.executable, "-c", DRIVE, facts, store]
    drivers = [subprocess.Popen(drive, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [driver.communicate()[0] for driver in drivers] == ["0\n", "0\n"]
    shared = Study(facts, store=store, progress=Quiet())
    assert Store(store).pieces_left(shared.plan.digest) == 0
    assert_same(shared, calm(facts, tmp_path))


def test_a_stage_is_shared_by_all_who_take_part_and_over_for_all_at_once(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}", create=True)
    store.add_study(StudyRecord(digest=DIGEST, name="one", spec="{}"))
    both = Barrier(2)
    done: list[Piece] = []

    def take_part() -> int:
        with sharing(store, DIGEST) as ours:
            ours.stage("s", lambda: [Piece(cell=0), Piece(cell=1)], lambda _piece, _stop: both.wait(300), keep)
            return len(done)

    def keep(claim: Claim, _: int) -> None:
        done.append(claim.piece)
        assert store.settle(claim)

    with ThreadPoolExecutor(2) as pool:
        assert [one.result() for one in [pool.submit(take_part), pool.submit(take_part)]] == [2, 2]
    assert {piece.cell for piece in done} == {0, 1}


@pytest.mark.slow
def test_three_workers_of_which_one_is_killed_give_the_table_of_one_process(
    url: str,  # noqa: F811
    long: str,
    tmp_path: Path,
) -> None:
    study = Study(long, store=url, progress=Quiet())
    store = Store(url, create=True)
    store.add_study(record_of(study.plan))
    joined = [begin(tmp_path, "work", "--store", url, "--threads", "1") for _ in range(3)]
    wait_for(lambda: study.status().finished > 0, joined)
    killed(joined[0])
    for one in joined[1:]:
        told, problems = one.communicate(timeout=1500)
        assert (one.returncode, told) == (0, "short: 240 of 240 trials are settled\n"), problems
    assert store.pieces_left(study.plan.digest) == 0
    assert_same(study, calm(long, tmp_path))


@pytest.mark.slow
def test_a_run_of_which_a_worker_is_killed_gives_the_table_of_one_process(long: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'trueoracle.db'}"
    process = begin(tmp_path, "run", "short.yaml", "--executor", "local", "--workers", "2")
    study = Study(long, store=store, progress=Quiet())

    def retraining() -> list[str]:
        return [one.worker for one in Store(store).in_flight(study.plan.digest) if one.stage == "retraining"]

    wait_for(retraining, [process])
    os.kill(int(retraining()[0].split("-")[-2]), signal.SIGKILL)
    _, problems = process.communicate(timeout=1500)
    assert process.returncode == 0, problems
    assert_same(study, calm(long, tmp_path))


def wait_for(reached: object, processes: "list[subprocess.Popen[str]]") -> None:
    def safe() -> bool:
        try:
            return bool(reached())  # type: ignore[operator]
        except Exception:  # the tables are not there yet
            return False

    wait_until(safe, processes[0], seconds=1500)


def test_a_run_by_local_workers_gives_the_table_of_one_process(facts: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'shared.db'}"
    study = Study(facts, store=store, executor="local", workers=2, progress=Quiet())
    assert study.run().left == 0
    assert_same(study, calm(facts, tmp_path))


@pytest.mark.slow
def test_workers_end_with_the_run_that_started_them(long: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'trueoracle.db'}"
    process = begin(tmp_path, "run", "short.yaml", "--executor", "local", "--workers", "2")
    study = Study(long, store=store, progress=Quiet())
    wait_for(lambda: Store(store).in_flight(study.plan.digest), [process])
    assert killed(process) == -signal.SIGKILL
    deadline = monotonic() + 1500  # a loaded machine may be slow to start a process
    while Store(store).in_flight(study.plan.digest):  # they give back what they held
        assert monotonic() < deadline
        sleep(0.2)


def test_a_killed_worker_is_known_to_be_dead_and_a_living_one_is_not(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}", create=True)
    store.add_study(StudyRecord(digest=DIGEST, name="one", spec="{}"))
    code = (
        "import sys, time\n"
        "from trueoracle.store import Store, Piece\n"
        "from trueoracle.study.sharing import sharing\n"
        f"with sharing(Store({store.url!r}), 'd' * 64) as ours:\n"
        "    ours.stage('s', lambda: [Piece(cell=0)], lambda *_: time.sleep(600), lambda *_: True)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code])
    deadline = monotonic() + 1500  # a loaded machine may be slow to start a process
    while not (held := store.in_flight(DIGEST)):
        assert monotonic() < deadline
        sleep(0.05)
    name = held[0].worker
    assert dead_among([name, "on another machine"]) == []
    other.kill()
    other.wait()
    assert dead_among([name, "on another machine"]) == [name]
    done = []
    with sharing(store, DIGEST) as ours:
        ours.stage(
            "s", list, lambda piece, _stop: piece, lambda claim, found: done.append(found) or store.settle(claim)
        )
    assert done == [Piece(cell=0)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"executor": "cloud"}, "unknown executor `cloud`: known are local, ray, threads"),
        ({"executor": "local", "workers": 0}, "`workers` must be at least 1, but got 0"),
        ({"ray_address": "auto"}, "`ray_address` goes with `executor` ray, but got executor=threads"),
        ({"executor": "ray", "ray_address": "here"}, "`ray_address` must be auto or HOST:PORT, but got here"),
        ({"workers": 2}, "`workers` go with `executor` local or ray"),
    ],
)
def test_what_cannot_work_is_one_line(facts: str, words: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Study(facts, progress=Quiet(), **words)  # type: ignore[arg-type]


def test_status_tells_who_is_at_work(facts: str, tmp_path: Path) -> None:
    study = Study(facts, store=f"sqlite:///{tmp_path / 'store.db'}", progress=Quiet())
    store = Store(study.store_url, create=True)
    store.add_study(record_of(study.plan))
    store.open_stage(study.plan.digest, "retraining", lambda: [Piece(cell=cell) for cell in range(4)])
    for worker in ("one", "one", "other"):
        store.claim(study.plan.digest, "retraining", worker, seconds=LEASE_SECONDS if worker == "one" else -1000)
    run = store.begin_run(study.plan.digest, 1, {}, "one")
    sleep(0.01)
    store.put_trials(study.plan.digest, [trial(Outcome.FINISHED, mask=mask) for mask in range(2)], 2, run)
    words = ["status", "short", "--store", study.store_url]
    lines = CliRunner().invoke(app, words, catch_exceptions=False).output.splitlines()
    assert lines[1].startswith("  one: at work on 2 of retraining, heard of ")
    assert re.search(r" seconds ago; 2 trials stored, [\d,.]+ a minute$", lines[1])
    assert lines[2].startswith("  other: at work on 1 of retraining, heard of 1,0")
    assert lines[2].endswith(" seconds ago: others take that over")


def test_a_worker_joins_what_is_open_and_finds_nothing_to_do_after(facts: str, tmp_path: Path) -> None:
    study = Study(facts, store=f"sqlite:///{tmp_path / 'store.db'}", progress=Quiet())
    Store(study.store_url, create=True).add_study(record_of(study.plan))
    words = ["work", "--store", study.store_url, "--threads", "1"]
    assert "short: 40 of 40 trials are settled" in CliRunner().invoke(app, words, catch_exceptions=False).output
    found = CliRunner().invoke(app, words, catch_exceptions=False)
    assert (found.exit_code, found.output) == (0, f"no study in {study.store_url} has anything left to do\n")
