"""Faults injected into a small study, and what was lost by them.

    python benchmarks/soak.py [--minutes 1] [--seed 1] [--only WORDS] [--postgresql] [--log FILE]

The study runs once undisturbed. Then, as long as time allows, one fault after another is injected into a run of it or
into what a run has left; the study is run to its end, and its tables are held against the undisturbed ones, bit for
bit. What a fault may do is cost time, or be refused in words. The table counts, for each kind of fault, how many were
injected and how many runs recovered or were refused, and the trials that were lost, doubled or changed, and the
runs that ended otherwise; the exit code is 1 where one of the last four is not 0, or where nothing was injected.

A kill is a SIGKILL of a process in the middle of its work. Which fault is injected next depends on the seed and its number alone; when a kill falls into the work depends on the clock, too.

With `--log` each injection is a line of that file, and the next call goes on after the last one, with the same seed or
another; the table is of all of them.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

os.environ.setdefault("OMP_NUM_THREADS", "1")  # forks of a process with threads of its own may hang

import torch
from faults import KINDS, SERVER, Server, restart_server
from undisturbed import REFUSED, SAME, WRONG, Soak

from trueoracle.words.folders import cache_folder

HERE = Path(__file__).parent
HARM = ("lost", "doubled", "changed", "crashed")
COLUMNS = ("injected", "recovered", "refused", *HARM)


def injected(
    soak: Soak, kinds: Mapping[str, tuple[Callable[[Soak], int], float]], seed: int, number: int
) -> dict[str, object]:
    """Inject one fault, the first ones of a seed each once, then by chance; and what came of it."""
    soak.begin(number, seed)
    weights = [weight for _, weight in kinds.values()]
    name = [*kinds][number] if number < len(kinds) else soak.chance.choices([*kinds], weights)[0]
    begin = time.monotonic()
    code = kinds[name][0](soak)
    found: dict[str, object] = {"fault": name, "seed": seed, "number": number, "code": code, "injected": 1}
    found["seconds"] = round(time.monotonic() - begin, 1)
    if code == WRONG:
        return {**found, **json.loads((soak.folder / "wrong").read_text())}
    if code == REFUSED:
        found["said"] = (soak.folder / "refused").read_text()
    return {**found, {SAME: "recovered", REFUSED: "refused"}.get(code, "crashed"): 1}


def counted(lines: Sequence[Mapping[str, object]]) -> dict[str, Counter[str]]:
    """The columns of the table, by fault and over all."""
    names = [*KINDS, SERVER[0], *sorted({str(line["fault"]) for line in lines} - {*KINDS, SERVER[0]}), "**all**"]
    counts = {name: Counter[str]() for name in names}
    for line in lines:
        numbers = {column: int(str(line.get(column, 0))) for column in COLUMNS}
        for name in (str(line["fault"]), "**all**"):
            counts[name].update(numbers)
    return {name: found for name, found in counts.items() if found["injected"]}


def table(counts: Mapping[str, Counter[str]]) -> Iterator[str]:
    yield f"| fault | {' | '.join(COLUMNS)} |"
    yield "|---|" + "---:|" * len(COLUMNS)
    for name, found in counts.items():
        yield f"| {name} | {' | '.join(f'{found[column]:,}' for column in COLUMNS)} |"


def commit() -> str:
    """Of the code that is tried."""
    words = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--minutes", type=float, default=1.0)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--only", help="kinds of fault that have this in their name")
    asked.add_argument("--postgresql", action="store_true", help="also kill a PostgreSQL server of its own")
    asked.add_argument("--log", type=Path, help="a file of injections, a line each, that this adds to")
    given = asked.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from without"))  # as Ctrl-C: nothing is left behind
    end = time.monotonic() + 60 * given.minutes
    log = given.log.resolve() if given.log else None
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log and log.exists() else []
    number = sum(line["seed"] == given.seed for line in lines)
    tried = commit()
    folder = Path(mkdtemp(prefix="soak-"))
    folder.chmod(0o755)
    if (cache_folder() / "kernels").is_dir():  # else they are compiled first
        shutil.copytree(cache_folder() / "kernels", folder / "cache" / "kernels")
    os.environ["TRUEORACLE_CACHE"] = str(folder / "cache")
    os.chdir(folder)
    torch.set_num_threads(1)
    kinds = dict(KINDS)
    server = None
    try:
        soak = Soak(folder)
        print(f"undisturbed: {len(soak.calm[0])} trials in {soak.seconds:.1f} s", flush=True)
        if given.postgresql:
            server = Server(folder)
            kinds[SERVER[0]] = partial(restart_server, server), SERVER[1]
        kinds = {name: kind for name, kind in kinds.items() if given.only is None or given.only in name}
        while time.monotonic() < end:
            line = {**injected(soak, kinds, given.seed, number), "commit": tried}
            number += 1
            lines.append(line)
            if any(line.get(column) for column in HARM):
                print(json.dumps(line), flush=True)
            if log:
                with log.open("a") as file:
                    file.write(json.dumps(line) + "\n")
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    counts = counted(lines)
    print("\n".join(table(counts)))
    sys.exit(not counts or any(counts["**all**"][column] for column in HARM))


if __name__ == "__main__":
    main()
