"""Killing or interrupting a run at any moment loses at most the work in flight."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pandas as pd
import yaml

from trueoracle import Study
from trueoracle.errors import StoreError
from trueoracle.progress import Quiet
from trueoracle.store import Store, store_exists

FACTS = {
    "name": "short",
    "model": "lenet5-mini",
    "data": "digits",
    "train": {"optimiser": "sgd", "lr": 0.02, "momentum": 0.9, "batch_size": 64, "epochs": 1},
    "retrain": {"optimiser": "sgd", "lr": 0.002, "momentum": 0.9, "batch_size": 64, "epochs": 4},
    "cells": [{"prune": {"conv3": 0.2}}],
    "repeats": 2,
    "final": "last",
}


def begin(folder: Path) -> "subprocess.Popen[str]":
    """The command in a process of its own, as a user would start it."""
    words = [sys.executable, "-m", "trueoracle", "run", "short.yaml", "--threads", "1"]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(reached: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Until the process has come so far; it must not end before."""
    deadline = monotonic() + 120
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

    process = begin(tmp_path)
    printed, problem = process.communicate()
    assert process.returncode == 0, problem
    assert "90 of 90 trials finished" in printed
    resumed = study.trials()
    drop = ["seconds"]
    pd.testing.assert_frame_equal(resumed.drop(columns=drop), calm.trials().drop(columns=drop), check_exact=True)
    pd.testing.assert_frame_equal(study.curves(), calm.curves(), check_exact=True)
    # What had finished before a kill was never run again.
    pd.testing.assert_frame_equal(after_kill.merge(resumed, how="left"), after_kill)
