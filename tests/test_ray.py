"""A study by tasks of a Ray cluster: the table is that of one process, also where a node is lost in the middle."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from test_workers import LONG, SHORT, assert_same, calm, written
from trueoracle import Study
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Quiet

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of Ray's own


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")  # a loaded machine may be slow to start a process
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'trueoracle[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def on(cluster: Any, facts: str, folder: Path, **words: Any) -> Study:
    store = f"sqlite:///{folder / 'shared.db'}"
    return Study(facts, store=store, executor="ray", ray_address=cluster.address, progress=Quiet(), **words)


def test_tasks_give_the_table_of_one_process(cluster: Any, tmp_path: Path) -> None:
    facts = written(SHORT, tmp_path)
    study = on(cluster, facts, tmp_path)
    assert study.run().left == 0
    assert_same(study, calm(facts, tmp_path))


def test_three_nodes_of_which_one_is_killed_give_the_table_of_one_process(cluster: Any, tmp_path: Path) -> None:
    facts = written(LONG, tmp_path)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    study = on(cluster, facts, tmp_path)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(study.run)
        deadline = monotonic() + 500
        while (status := study.stored_status()) is None or not status.finished:
            assert not run.done(), run.result()
            assert monotonic() < deadline
            sleep(0.1)
        cluster.remove_node(nodes[0], allow_graceful=False)
        assert run.result().left == 0
    assert_same(study, calm(facts, tmp_path))


def test_where_no_cluster_answers_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'trueoracle[ray]'")
    store = f"sqlite:///{tmp_path / 'store.db'}"
    study = Study(written(SHORT, tmp_path), store=store, executor="ray", ray_address="127.0.0.1:1", progress=Quiet())
    with pytest.raises(SpecError, match="no Ray cluster answers at `127.0.0.1:1`"):
        study.run()
