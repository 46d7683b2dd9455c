"""Killing or interrupting a run at any moment loses at most the work in flight."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pandas as pd
import pytest
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

from trueoracle import Study
from trueoracle.cli.app import app
from trueoracle.nets import build
from trueoracle.store import Store, store_exists
from trueoracle.words.errors import StoreError
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape

FACTS = {
    "name": "short",
    "model": "lenet5-mini",
    "data": "digits",
    "train": {"optimiser": "sgd", "lr": 0.02, "momentum": 0.9, "batch_size": 64, "epochs": 1},
    "retrain": {"optimiser": "sgd", "lr": 0.002, "momentum": 0.9, "batch_size": 64, "epochs": 3},
    "cells": [{"prune": {"conv3": 0.2}, "draw": 40}],  # five fleets of sixteen trials
    "repeats": 2,
    "final": "last",
}


RUN = ("run", "short.yaml", "--threads", "1")
ORACLE = (
    "oracle", "--model", "lenet5-mini", "--weights", "w.safetensors", "--data", "digits", "--threads", "1",
    "--prune", "conv1=0.5", "--prune", "conv2=0.3", "--prune", "conv3=0.1",
)  # fmt: skip


def begin(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """The command in a process of its own, as a user would start it: heeding Ctrl-C, even if this one runs in the background."""
    whole = [sys.executable, "-m", "trueoracle", *(words or RUN)]
    pipe = subprocess.PIPE
    return subprocess.Popen(whole, cwd=folder, stdout=pipe, stderr=pipe, text=True, preexec_fn=_heed_interrupts)


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(reached: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 300) -> None:
    """Until the process has come so far; it must not end before."""
    deadline = monotonic() + seconds
    while not reached():
        assert process.poll() is None, process.communicate()
        assert monotonic() < deadline
        sleep(0.05)


def killed(process: "subprocess.Popen[str]") -> int:
    process.kill()
    process.communicate()
    return process.returncode


def masks_kept(study: Study) -> int:
    try:
        return len(Store(study.store_url).masks(study.plan.digest, 0)) if store_exists(study.store_url) else 0
    except StoreError:  # the file is there, its tables are not yet
        return 0


def test_a_study_killed_twice_and_interrupted_once_ends_with_the_table_of_a_calm_one(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(FACTS))
    calm = Study(str(tmp_path / "short.yaml"), store=f"sqlite:///{tmp_path / 'calm.db'}", progress=Quiet())
    calm.run()
    study = Study(str(tmp_path / "short.yaml"), store=f"sqlite:///{tmp_path / 'trueoracle.db'}", progress=Quiet())

    process = begin(tmp_path)
    wait_until(lambda: masks_kept(study) > 0, process)
    assert killed(process) == -signal.SIGKILL
    assert study.status().finished == 0

    process = begin(tmp_path)
    wait_until(lambda: study.status().finished > 2, process)
    killed(process)
    after_kill = study.trials()

    process = begin(tmp_path)
    wait_until(lambda: study.status().finished > len(after_kill) + 2, process)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate()
    assert process.returncode == 130
    assert "To resume, give the same command again" in printed
    assert study.status().left > 0

    assert study.run().finished == 80
    resumed = study.trials()
    drop = ["seconds"]
    pd.testing.assert_frame_equal(resumed.drop(columns=drop), calm.trials().drop(columns=drop), check_exact=True)
    pd.testing.assert_frame_equal(study.curves(), calm.curves(), check_exact=True)
    # What had finished before a kill was never run again.
    pd.testing.assert_frame_equal(after_kill.merge(resumed, how="left"), after_kill)


def test_an_oracle_killed_and_interrupted_ends_with_the_table_of_a_calm_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = build("lenet5-mini", InputShape(channels=1, height=32, width=32, classes=10), seed=4)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    printed = CliRunner().invoke(app, [*ORACLE, "-o", "calm.parquet"], catch_exceptions=False).output
    assert "302,400 masks on" in printed
    calm = pd.read_parquet(tmp_path / "calm.parquet")

    kept = tmp_path / "table.parquet.unfinished" / "0.safetensors"
    process = begin(tmp_path, *ORACLE, "-o", "table.parquet")
    wait_until(kept.exists, process)
    assert killed(process) == -signal.SIGKILL
    assert not (tmp_path / "table.parquet").exists()

    before = kept.stat().st_mtime_ns
    process = begin(tmp_path, *ORACLE, "-o", "table.parquet")
    wait_until(lambda: kept.stat().st_mtime_ns > before, process)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate()
    assert process.returncode == 130
    assert "what was done is kept beside table.parquet. To resume, give the same command again" in told

    resumed = CliRunner().invoke(app, [*ORACLE, "-o", "table.parquet"], catch_exceptions=False).output
    assert "302,400 masks on" in resumed
    assert {path.name for path in tmp_path.iterdir()} == {"w.safetensors", "calm.parquet", "table.parquet"}
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), calm, check_exact=True)
