"""What a user may get wrong, over every command: one line on standard error, exit code 2, and nothing is left behind."""

import shlex
import shutil
import sqlite3
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from typer.main import get_command

from trueoracle import Study
from trueoracle.cli.app import app, main
from trueoracle.nets import build
from trueoracle.words.shape import InputShape

BAD_INPUTS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "",
        {
            "nosuch": "No such command 'nosuch'.",
            "--version": "No such option: --version",
        },
    ),
    (
        "studies",
        {
            "nosuch": "unknown study `nosuch`",
            "quickstart extra": "Got unexpected extra argument(s) (extra)",
            "missing.yaml": "the study `missing.yaml` cannot be read",
            "broken.yaml": "the study `broken.yaml` is no YAML",
            "list.yaml": "the study `list.yaml` must hold keys and values, but holds list",
            "empty.yaml": "the study `empty.yaml` must hold keys and values, but holds NoneType",
            "binary.yaml": "the study `binary.yaml` is no YAML",
            "python.yaml": "the study `python.yaml` is no YAML",
            "folder.yaml": "the study `folder.yaml` cannot be read",
            "--nosuch": "No such option: --nosuch",
            "--store nonsense": "`nonsense` is no store: a store is named like sqlite:///trueoracle.db or",
            "--store text.db": "`text.db` is no store: a store is named like sqlite:///trueoracle.db or",
            "--store mysql://host/name": "`mysql://host/name` is no store: a store is named like",
            "--store postgresql://localhost:port/name": "`postgresql://localhost:port/name` is no store: a store is named like",
            "--store postgresql:///name?host=/nowhere": "the store postgresql:///name?host=/nowhere failed",
            "--store sqlite:///text.db": "the file of sqlite:///text.db is no database: name another with --store",
            "--store sqlite:///newer.db": "the store sqlite:///newer.db has schema 999",
            "--store sqlite:///other.db": "the database sqlite:///other.db is no trueoracle store: nothing was changed;",
        },
    ),
    (
        "run",
        {
            "": "Missing argument 'study'.",
            "quickstrat": "unknown study `quickstrat`: did you mean `quickstart`",
            "missing.yaml": "the study `missing.yaml` cannot be read",
            "broken.yaml": "the study `broken.yaml` is no YAML",
            "python.yaml": "the study `python.yaml` is no YAML",
            "bare.yaml --scale tiny": "bare.yaml does not say what scale `tiny` is: write its changes under",
        },
    ),
    (
        "run quickstart",
        {
            "--scale huge": "unknown scale `huge`",
            "--threads 0": "`threads` must be at least 1, but got 0",
            "--threads many": "Invalid value for '--threads'",
            "--device tpu": "`device` must be cpu or cuda, but got `tpu`",
            "--device cuda:9": "`device` must be cpu or cuda, but got `cuda:9`",
            "--backend fast": "unknown backend `fast`",
            "--store nonsense": "`nonsense` is no store: a store is named like sqlite:///trueoracle.db or",
            "--store sqlite:///missing/s.db": "the folder of the store `missing/s.db` does not exist",
            "--store sqlite:///folder": "the store sqlite:///folder failed: unable to open database file",
            "--store sqlite:///text.db": "the file of sqlite:///text.db is no database: name another with --store",
            "--store sqlite:///other.db": "the database sqlite:///other.db is no trueoracle store: nothing was changed;",
            "--store sqlite:///newer.db": "the store sqlite:///newer.db has schema 999",
            "--store postgresql://me:secret@localhost:1/name": "the store postgresql://me:***@localhost:1/name failed",
            "--base-weights missing.safetensors": "the base weights `missing.safetensors` cannot be read",
            "--base-weights folder": "the base weights `folder` cannot be read",
            "--base-weights text.safetensors": "the weights `text.safetensors` are no safetensors file",
            "--base-weights pickled.safetensors": "the weights `pickled.safetensors` are no safetensors file",
            "--base-weights cut.safetensors": "the weights `cut.safetensors` are no safetensors file",
            "--base-weights other.safetensors": "the weights `other.safetensors` do not fit the network: it lacks",
            "--base-weights nan.safetensors": "the weights `nan.safetensors` hold values in `conv1.weight` that are not",
            "--data-dir missing --set data=mnist": "the data folder `missing` does not exist",
            "--data-dir folder --set data=mnist": "`folder` holds no folder `mnist`",
            "--data-dir broken --set data=mnist": "`broken/mnist/train.parquet` cannot be read",
            "--set": "Option '--set' requires an argument.",
            "--set =3": "`--set` takes path=value, but got `=3`",
            "--set repeats": "`--set` takes path=value, but got `repeats`",
            "--set 'repeats=[1'": "`--set repeats`: the value `[1` is no YAML",
            "--set repeats=0": "quickstart: `repeats`",
            "--set repeats=1.5": "quickstart: `repeats`",
            "--set repeats=true": "quickstart: the key takes neither true nor false, but got true (in `repeats`)",
            "--set repeats=99999999999999999999": "quickstart: `repeats`",
            "--set seed=one": "quickstart: `seed`",
            "--set retrian.epochs=3": "quickstart: unknown key `retrian`: did you mean `retrain`",
            "--set retrain.epoch=3": "quickstart: unknown key `epoch`: did you mean `epochs`",
            "--set retrain=3": "quickstart: `retrain`",
            "--set retrain.epochs=many": "quickstart: `retrain.epochs`",
            "--set retrain.lr=.nan": "quickstart: `retrain.lr`",
            "--set retrain.lr=.inf": "quickstart: `retrain.lr`",
            "--set retrain.lr=-1": "quickstart: `retrain.lr`",
            "--set retrain.momentum=1": "quickstart: `retrain.momentum`",
            "--set retrain.batch_size=0": "quickstart: `retrain.batch_size`",
            "--set retrain.optimiser=sdg": "quickstart: `retrain.optimiser`",
            "--set 'retrain.milestones=[2, 1]'": "quickstart: `milestones` must rise, but got [2, 1] (in `retrain`)",
            "--set 'retrain.milestones=[]' --set retrain.schedule=step": "quickstart: `milestones` and `schedule: step` go together (in `retrain`)",
            "--set retrain.warmup_epochs=99": "quickstart: `warmup_epochs` must lie below `epochs`, 8, but got 99 (in",
            "--set retrain.augmentation.turn=1": "quickstart: unknown key `turn`",
            "--set 'retrain.lora={rank: 2, alpha: 2, targets: [nosuch]}'": "`lora` is to train the layers called `nosuch`, but the network has none",
            "--set model=lenet5-mimi": "unknown model `lenet5-mimi`: did you mean `lenet5-mini`",
            "--set model=nosuch:factory": "`nosuch:factory` cannot be imported: No module named 'nosuch'",
            "--set model=own:nosuch": "`own:nosuch` cannot be imported: module 'own' has no attribute 'nosuch'",
            "--set model=own:raises": "`own:raises` cannot be made for 1x32x32 images of 10 classes: RuntimeError:",
            "--set model=own:number": "`own:number` must make a torch.nn.Module, but made a int",
            "--set model=own:constant": "`own:constant` must be a function or class that makes a network, but is a int",
            "--set data=minst": "unknown dataset `minst`: did you mean `mnist`",
            "--set data=./missing": "the data `missing` does not exist",
            "--set data=./folder": "`folder` must hold the folders train and test with a folder for each class,",
            "--set data=./pictures": "`pictures/train/a/x.png` is no image of a known format",
            "--set data=own:number": "`own:number` must be a `trueoracle.data.Source` or a function that returns",
            "--set data=./text.parquet": "`text.parquet` cannot be read",
            "--set data=./t.parquet": "`t.parquet` holds no column `label` or `fine_label`",
            "--set cells=[]": "quickstart: `cells`",
            "--set cells.7.draw=2": "cannot set `cells.7.draw`: `7` must be a number from 0 to 0",
            "--set cells.x.draw=2": "cannot set `cells.x.draw`: `x` must be a number from 0 to 0",
            "--set 'cells.0.prune={}'": "quickstart: a cell prunes either units, by `prune`, or single weights",
            "--set 'cells.0.prune={conv9: 0.5}'": "cell `conv9-0.5` of study `quickstart`: unknown site `conv9`: did you mean",
            "--set 'cells.0.prune={conv1: 0.01}'": "cell `conv1-0.01` of study `quickstart`: ratio 0.01 prunes nothing of",
            "--set 'cells.0.prune={conv1: 1.0}'": "quickstart: the ratio of `conv1` must lie in (0, 1), but got 1.0 (in",
            "--set 'cells.0.prune={conv1: .nan}'": "quickstart: `cells.0.prune.conv1`",
            "--set cells.0.draw=253": "cell `conv1-0.5` of study `quickstart`: cannot draw 253 masks from a space of",
            "--set 'cells.0.masks=[3, 3]'": "quickstart: `masks` must be ranks that rise, each once (in `cells.0.masks`)",
            "--set 'cells.0.masks=[999]'": "cell `conv1-0.5` of study `quickstart`: `masks` must lie in [0, 252), but got",
            "--set 'cells.0.search={evaluations: 5, keep: 9}'": "quickstart: `keep` must not exceed `evaluations`, 5, but got 9 (in",
            "--set 'cells.0.search={evaluations: 5, method: swap}'": "cell `conv1-0.5` of study `quickstart`: unknown search `swap`: did you mean",
            "--set name=": "quickstart: `name`",
            "--set name=../up": "quickstart: `name`",
            "--set \"name='<b>x</b>'\"": "quickstart: `name`",
            "--set model.x=3": "cannot set `model.x`: what it leads through is the value 'lenet5-mini'",
            "--set train_images=99999": "`train_images` must be at most 1437, all that `digits` has, but got 99999",
            "--set validation_images=1.5": "quickstart: `validation_images` must be a number of images or a share in (0,",
            "--set validation_images=99999": "`validation_images` must leave some of the 1437 train images of `digits` on",
            "--set final=best": "quickstart: `final`",
            "--set oracle_images=99": "quickstart: `oracle_images`",
            "--set oracle_images=99999": "`oracle_images` must lie in [100, 1150], but got 99999",
            "--set width_factor=0.5": "`lenet5-mini` has one width: leave `width_factor` at 1, not 0.5",
            "--set schema=2": "quickstart: `schema`",
            "--set base_networks=2 --base-weights good.safetensors": "quickstart: `base_weights` hold one base network, but `base_networks` is 2",
            "--set recalibration_images=5": "`lenet5-mini` has no BatchNorm to recalibrate: leave `recalibration_images`",
            "--set keep=everything": "quickstart: `keep`",
            "--set train=null": "quickstart: `train` is missing: say how the base network is trained, or give",
        },
    ),
    (
        "status quickstart",
        {
            "": "there is no store at `trueoracle.db`: `trueoracle run` makes one, or name",
            "--store sqlite:///text.db": "the file of sqlite:///text.db is no database: name another with --store",
            "--store sqlite:///cut.db": "the file of sqlite:///cut.db is damaged (database disk image is malformed):",
            "--store sqlite:///empty.db": "there is no store at `empty.db`: `trueoracle run` makes one, or name another",
            "--store sqlite:///unversioned.db": "the store sqlite:///unversioned.db does not say which schema it has: it is",
        },
    ),
    (
        "status",
        {
            "quickstrat --store sqlite:///good.db": "unknown study `quickstrat`: did you mean `quickstart`",
            "'' --store sqlite:///good.db": "unknown study ``",
        },
    ),
    (
        "trials quickstart --store sqlite:///good.db",
        {
            "": "Missing option '-o' / '--output'.",
            "-o t.xlsx": "`t.xlsx` must end in .parquet or .csv",
            "-o missing/t.csv": "the folder of `missing/t.csv` does not exist",
            "-o folder.csv": "`folder.csv` is a folder: name a file",
            "-o a.csv --answers": "answers are lists, so `a.csv` must end in .parquet",
            "-o a.parquet --answers --curves": "`--curves` and `--answers` are two tables: ask for one at a time",
            "-o t.csv --store sqlite:///flipped.db": "the store is damaged: a row of `trials` is not as it was written; take the",
            "-o t.csv --store sqlite:///missing.db": "there is no store at `missing.db`: `trueoracle run` makes one, or name",
        },
    ),
    (
        "base quickstart --store sqlite:///good.db",
        {
            "": "Missing option '-o' / '--output'.",
            "-o w.safetensors --number 5": "`number` must lie in [0, 1), but got 5",
            "-o w.safetensors --number -1": "`number` must lie in [0, 1), but got -1",
            "-o missing/w.safetensors": "`missing/w.safetensors` cannot be written",
            "-o folder": "`folder` cannot be written",
        },
    ),
    (
        "sites",
        {
            "": "Missing argument 'model'.",
            "lenet5": "unknown model `lenet5`: did you mean `lenet5-mini`",
            "nosuch:factory": "which images `nosuch:factory` takes is not known: name a dataset, such as qa:",
            "own:number": "which images `own:number` takes is not known: name a dataset, such as qa: for",
            "lenet5-mini --data minst": "unknown dataset `minst`: did you mean `mnist`",
            "lenet5-mini --data ./missing": "the data `missing` does not exist",
        },
    ),
    (
        "oracle --model lenet5-mini --data digits -o o.csv --weights good.safetensors",
        {
            "": "Missing option '--prune'.",
            "--prune conv1": "`--prune` takes SITE=RATIO such as conv1=0.5, but got `conv1`",
            "--prune conv1=half": "`--prune` takes SITE=RATIO such as conv1=0.5, but got `conv1=half`",
            "--prune conv1=nan": "the ratio of `conv1` must lie in (0, 1), but got nan",
            "--prune conv1=1.5": "the ratio of `conv1` must lie in (0, 1), but got 1.5",
            "--prune =0.5": "unknown site ``",
            "--prune nosuch*=0.5": "no site is called `nosuch*`",
            "--prune conv1=0.5 --prune conv1=0.3": "`--prune` names `conv1` twice",
        },
    ),
    (
        "oracle --model lenet5-mini --data digits -o o.csv --weights good.safetensors --prune conv1=0.5",
        {
            "-o o.txt": "`o.txt` must end in .parquet or .csv",
            "-o missing/o.csv": "the folder of `missing/o.csv` does not exist",
            "-o folder.csv": "`folder.csv` is a folder: name a file",
            "--model lenet5": "unknown model `lenet5`: did you mean `lenet5-mini`",
            "--data minst": "unknown dataset `minst`: did you mean `mnist`",
            "--weights missing.safetensors": "the weights `missing.safetensors` cannot be read",
            "--weights nan.safetensors": "the weights `nan.safetensors` hold values in `conv1.weight` that are not",
            "--weights other.safetensors": "the weights `other.safetensors` do not fit the network: it lacks",
            "--weights pickled.safetensors": "the weights `pickled.safetensors` are no safetensors file",
            "--sample 0": "Invalid value for '--sample'",
            "--sample 999": "cannot draw 999 masks from a space of 252",
            "--images 0": "`images` must lie in [2, 1437], but got 0",
            "--images 99999": "`images` must lie in [2, 1437], but got 99999",
            "--removal gone": "`removal` must be one of aligned, released, but got 'gone'",
            "--path fast": "unknown path `fast`",
            "--search swap": "unknown search `swap`: did you mean `swaps`",
            "--search swaps": "search `swaps` goes on until its budget is spent: say how many `evaluations`",
            "--search swaps --evaluations 0": "`evaluations` must be at least 1, but got 0",
            "--search swaps --core-seconds nan": "`core_seconds` must be above 0, but got nan",
            "--evaluations 5": "`--evaluations` is for a search: name one, such as `--search swaps`",
            "--search race --evaluations 50 --confidence 1.5": "`confidence` must lie in (0, 1), but got 1.5",
            "--top 0": "Invalid value for '--top'",
            "--device tpu": "`device` must be cpu or cuda, but got `tpu`",
            "--threads 0": "`threads` must be at least 1, but got 0",
            "--seed x": "Invalid value for '--seed'",
            "--data mnist --data-dir missing": "the data folder `missing` does not exist",
        },
    ),
    (
        "analyze",
        {
            "": "Missing argument 'source'.",
            "missing.csv": "the table `missing.csv` cannot be read",
            "missing.parquet": "the table `missing.parquet` cannot be read",
            "folder.csv": "the table `folder.csv` cannot be read",
            "text.parquet": "the table `text.parquet` cannot be read",
            "empty.csv": "the table `empty.csv` cannot be read",
        },
    ),
    (
        "analyze --x x --y y --x-higher-is-better x --y-higher-is-better y",
        {
            "header.csv": "column `x` must hold numbers, but holds object",
            "binary.csv": "the table `binary.csv` cannot be read",
            "words.csv": "column `x` must hold numbers, but row 1 (and 2 others) holds `a`",
            "holes.csv": "column `x` holds 1 missing or infinite values in the table: drop those rows",
            "constant.csv": "column `x` is constant (1) in the table: nothing can correlate with it",
            "two.csv": "a correlation needs at least 3 masks, but in the table there are 2",
            "doubled.csv": "column `x` stands 2 times in `doubled.csv`: columns 1, 2",
        },
    ),
    (
        "analyze t.csv --x x --y y --x-higher-is-better x --y-higher-is-better y",
        {
            "--x nosuch": "unknown column `nosuch`",
            "--y nosuch": "unknown column `nosuch`",
            "--y x": "x and y are the same column, `x`: name two",
            "--group nosuch": "unknown column `nosuch`",
            "--classes ten": "`--classes` takes N or GROUP=N, but got `ten`",
            "--classes 1": "`classes` must be at least 2, but got 1",
            "--classes nosuch=3": "unknown group `nosuch`",
            "--margin 1.5": "`margin` must lie in (0, 1), but got 1.5",
            "--margin nan": "`margin` must lie in (0, 1), but got nan",
            "--alpha 0": "`alpha` must lie in (0, 1), but got 0.0",
            "--target planets": "Invalid value for '--target'",
            "--other-images 0": "`other_images` must be at least 1, but got 0",
            "--resamples 5": "`resamples` must be at least 99, but got 5",
            "--threads 0": "`threads` must be at least 1, but got 0",
            "--x-lower-is-better x": "column `x` cannot be better both when higher and when lower",
            "--x-higher-is-better nosuch": "unknown column `nosuch`",
            "-o a.txt": "`a.txt` must end in .csv, .parquet or .tex",
            "-o missing/a.csv": "the folder of `missing/a.csv` does not exist",
            "-o folder.csv": "`folder.csv` is a folder: name a file",
        },
    ),
    (
        "analyze quickstart --store sqlite:///good.db",
        {
            "--store sqlite:///failed.db": "a correlation needs at least 3 masks",
            "--group cell": "`--group` and `--classes` are for tables; a stored study knows its cells and",
            "--x nosuch": "unknown column `nosuch`",
            "--y nosuch": "unknown column `nosuch`",
            "--threads 0": "`threads` must be at least 1, but got 0",
            "--store sqlite:///flipped.db": "the store is damaged: a row of `trials` is not as it was written; take the",
        },
    ),
    (
        "criteria quickstart --store sqlite:///good.db",
        {
            "--images 5": "`--criteria` and `--images` say what to measure: they go with `--measure`",
            "--measure --images 0": "`images` must be at least 1, but got 0",
            "--measure --criteria nosuch": "unknown predictor `nosuch`",
            "--x nosuch": "unknown predictor `nosuch`",
            "--y nosuch": "unknown column `nosuch`",
            "-k 0": "`k` must be at least 1, but got 0",
            "-o x.txt": "`x.txt` must end in .csv, .parquet or .json",
            "-o missing/x.csv": "the folder of `missing/x.csv` does not exist",
            "--figure x.txt": "`x.txt` must end in .svg, .png or .pdf",
            "--figure missing/x.svg": "the folder `missing` does not exist: make it, or name another",
            "--measure --device tpu": "`device` must be cpu or cuda, but got `tpu`",
            "quickstrat": "unknown study `quickstrat`: did you mean `quickstart`",
        },
    ),
    (
        "plan",
        {
            "": "name a pilot study, or give `--reliability`, the correlation of two repeats",
            "quickstart --store sqlite:///missing.db": "there is no store at `missing.db`: `trueoracle run` makes one, or name",
        },
    ),
    (
        "plan --reliability 0.5",
        {
            "--reliability 1.5": "`reliability` must lie in (0, 1], but got 1.5",
            "--reliability nan": "`reliability` must lie in (0, 1], but got nan",
            "--tau 2": "`tau` must lie in (-1, 1), but got 2.0",
            "--tau nan": "`tau` must lie in (-1, 1), but got nan",
            "--repeats 0": "`repeats` must be at least 1, but got 0",
            "--units 1": "`effects` must be at least 1, but got 0",
            "--trial-seconds -1": "`trial_seconds` must be above 0 and finite, but got -1",
            "--trial-seconds nan": "`trial_seconds` must be above 0 and finite, but got nan",
            "--cells 0": "`cells` must be at least 1, but got 0",
            "--margin 0": "`margin` must lie in (0, 1), but got 0.0",
            "--alpha 1": "`alpha` must lie in (0, 1), but got 1.0",
            "--power 1": "`power` must lie in (0, 1), but got 1.0",
            "--claim miracle": "Invalid value for '--claim'",
        },
    ),
    (
        "report quickstart --store sqlite:///good.db",
        {
            "--store sqlite:///failed.db": "a correlation needs at least 3 masks",
            "-o missing/r.html": "the folder `missing` does not exist: make it, or name another",
            "-o folder": "`folder` is a folder: name a file",
            "--x nosuch": "unknown column `nosuch`",
            "--y nosuch": "unknown column `nosuch`",
            "--store sqlite:///text.db": "the file of sqlite:///text.db is no database: name another with --store",
        },
    ),
    (
        "figures quickstart --store sqlite:///good.db",
        {
            "-o missing/f": "the folder `missing` does not exist: make it, or name another",
            "-o t.csv": "the folder `t.csv` does not exist: make it, or name another",
            "--x nosuch": "unknown column `nosuch`",
            "--y nosuch": "unknown column `nosuch`",
        },
    ),
    (
        "serve --port 0 --store sqlite:///good.db",
        {
            "--store sqlite:///missing.db": "there is no store at `missing.db`: `trueoracle run` makes one, or name",
            "--store sqlite:///text.db": "the file of sqlite:///text.db is no database: name another with --store",
            "--port 99999": "`port` must lie in [0, 65535], but got 99999",
            "--port http": "Invalid value for '--port'",
            "--token short": "a token must have at least 16 characters, but got 5",
            "--landscape missing.parquet": "there is no landscape `missing.parquet`: `trueoracle oracle -o` writes one",
            "--landscape text.parquet": "the landscape `text.parquet` cannot be read",
            "--landscape t.parquet": "`t.parquet` is no landscape: it has no column `mask`",
        },
    ),
    (
        "select --model lenet5-mini --data digits --weights good.safetensors --prune conv1=0.5",
        {
            "": "Missing option '--budget'.",
            "--budget 30": "`budget` must be like 200-epochs, 90s, 30m or 2h, but got `30`",
            "--budget soon": "`budget` must be like 200-epochs, 90s, 30m or 2h, but got `soon`",
            "--budget -3m": "`budget` must be like 200-epochs, 90s, 30m or 2h, but got `-3m`",
            "--budget 0m": "a budget of `0m` buys nothing",
            "--budget nan-epochs": "`budget` must be like 200-epochs, 90s, 30m or 2h, but got `nan-epochs`",
        },
    ),
    (
        "select --budget 10-epochs --model lenet5-mini --data digits --weights good.safetensors --prune conv1=0.5",
        {
            "--compare all": "unknown comparison `all`",
            "-o folder": "`folder` exists already: name a folder that does not",
            "-o missing/s": "the folder of `missing/s` does not exist",
            "--validation-images -5": "lenet5-mini: `validation_images` must be a number of images or a share in (0,",
            "--validation-images inf": "lenet5-mini: `validation_images.int`",
            "--validation-images 20.5": "lenet5-mini: `validation_images` must be a number of images or a share in (0,",
            "--prune conv1": "`--prune conv1` has no ratio, but others have: give one to all or to none",
            "--prune conv9=0.5": "cell `conv1+conv9-0.5` of study `lenet5-mini`: unknown site `conv9`: did you",
            "--prune conv1=0.3": "`--prune` names `conv1` twice",
            "--device tpu": "`device` must be cpu or cuda, but got `tpu`",
            "--threads 0": "`threads` must be at least 1, but got 0",
            "--backend fast": "unknown backend `fast`",
            "--scale huge": "`digits` has no validation images to choose on: hold some of the train images",
            "--name ../x": "the name `../x`: `name`",
            "--data minst": "unknown dataset `minst`: did you mean `mnist`",
            "--weights nan.safetensors": "the weights `nan.safetensors` hold values in `conv1.weight` that are not",
            "--set retrain.lr=-1": "lenet5-mini: `retrain.lr`",
        },
    ),
    (
        "select --budget 10-epochs --model lenet5-mini",
        {
            "": "say what is to be pruned: a study, or a model and its data",
            "--data digits --weights good.safetensors": "lenet5-mini: `cells`",
        },
    ),
    (
        "export quickstart -o e --cell conv1-0.5 --store sqlite:///good.db",
        {
            "-o folder": "`folder` exists already: name a folder that does not",
            "-o missing/e": "the folder of `missing/e` does not exist",
            "--cell nosuch": "unknown cell `nosuch`",
            "--mask worst": "`mask` must be best or a rank, such as 17, but got `worst`",
            "--mask 99999": "`mask` must lie in [0, 252), the masks of cell `conv1-0.5`, but got 99999",
            "--mask -1": "`mask` must be best or a rank, such as 17, but got `-1`",
            "--repeat 9": "`repeat` must lie in [0, 2), but got 9",
            "--format tflite": "unknown format `tflite`",
            "--device tpu": "`device` must be cpu or cuda, but got `tpu`",
            "--store sqlite:///missing.db": "there is no store at `missing.db`: `trueoracle run` makes one, or name",
        },
    ),
    (
        "doctor",
        {
            "extra": "Got unexpected extra argument(s) (extra)",
        },
    ),
    (
        "table",
        {
            "nosuch": "No such command 'nosuch'.",
            "show": "Missing argument 'STUDY[/CELL]'.",
            "list --table missing": "there is no table in `missing`: `manifest.json` cannot be read (No such file",
            "show digits --table folder": "there is no table in `folder`: `manifest.json` cannot be read (No such file",
            "verify digits --table folder": "there is no table in `folder`: `manifest.json` cannot be read (No such file",
            "export digits": "say where to: `-o FILE` for a file, or `--store URL` for a store",
            "export digits -o x.csv --store sqlite:///x.db": "say where to: `-o FILE` for a file, or `--store URL` for a store",
            "build": "Missing argument 'studies'.",
        },
    ),
    (
        "table build quickstart --store sqlite:///good.db -o folder --version 1.0.0",
        {
            "quickstrat": "unknown study `quickstrat`: did you mean `quickstart`",
            "--version one": "`version` must be like 1.1.0, but got `one`",
            "--store sqlite:///missing.db": "there is no store at `missing.db`: `trueoracle run` makes one, or name",
        },
    ),
    (
        "score",
        {
            "": "Missing argument 'file'.",
            "t.csv": "Missing option '--better'.",
            "t.csv --better lower": "`t.csv` has 2 columns beside base, cell, mask: name the predictor by --x",
            "missing.csv --better lower": "the table `missing.csv` cannot be read",
            "empty.csv --better lower": "the table `empty.csv` cannot be read",
            "text.parquet --better lower": "the table `text.parquet` cannot be read",
        },
    ),
    (
        "run quickstart",
        {
            "--executor fast": "unknown executor `fast`",
            "--executor local --workers 0": "`workers` must be at least 1, but got 0",
            "--workers 2": "`workers` go with `executor` local or ray",
        },
    ),
    (
        "work --store sqlite:///good.db",
        {
            "quickstart": "Got unexpected extra argument(s) (quickstart)",
            "--study quickstrat": "unknown study `quickstrat`",
            "--device tpu": "`device` must be cpu or cuda, but got `tpu`",
            "--threads 0": "`threads` must be at least 1, but got 0",
            "--backend fast": "unknown backend `fast`",
            "--store sqlite:///missing.db": "there is no store at `missing.db`",
            "--store sqlite:///text.db": "the file of sqlite:///text.db is no database",
        },
    ),
    (
        "sample",
        {
            "": "Missing argument 'model'.",
            "unet -o p.png --pictures 0": "Invalid value for '--pictures'",
        },
    ),
    (
        "ratios unet --data denoise:mnist@24",
        {
            "": "Missing option '-o'",
            "-o r.csv --evaluations 0": "Invalid value for '--evaluations'",
            "-o r.txt": "`r.txt` must end in .parquet or .csv",
        },
    ),
)
"""What is typed in the folder `place`, and what after it is wrong, with the beginning of the answer."""

LINES = [(f"{typed} {wrong}".strip(), answer) for typed, wrongs in BAD_INPUTS for wrong, answer in wrongs.items()]

TEXTS = {
    "text.db": "no database at all, only text that is long enough" * 50,
    "empty.db": "",
    "folder/kept": "",
    "folder.csv/kept": "",
    "folder.yaml/kept": "",
    "broken.yaml": "a: [1\nb: }",
    "list.yaml": "- 1",
    "empty.yaml": "",
    "bare.yaml": "name: bare",
    "python.yaml": "name: !!python/object/apply:os.system ['touch left']",
    "text.safetensors": "text",
    "own.py": "constant = 3\ndef number(**facts):\n    return 3\ndef raises(**facts):\n    raise RuntimeError('two\\nlines')\n",
    "broken/mnist/train.parquet": "text",
    "broken/mnist/test.parquet": "text",
    **{f"pictures/{split}/{name}/x.png": "text" for split in ("train", "test") for name in "ab"},
    "text.parquet": "text",
    "empty.csv": "",
    "header.csv": "x,y\n",
    "words.csv": "x,y\na,1\nb,2\nc,3\n",
    "holes.csv": "x,y\n1,1\n,2\n3,3\n",
    "constant.csv": "x,y\n1,1\n1,2\n1,3\n",
    "two.csv": "x,y\n1,1\n2,2\n",
    "doubled.csv": "x,x,y\n1,1,1\n2,2,2\n3,3,3\n",
}


@pytest.fixture(scope="module")
def place(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good files and broken ones."""
    folder = tmp_path_factory.mktemp("place")
    for name, text in TEXTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name in ("binary.yaml", "binary.csv"):
        (folder / name).write_bytes(bytes(range(256)))
    table = pd.DataFrame({"x": range(12), "y": [3, 1, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12]})
    table.to_csv(folder / "t.csv", index=False)
    table.to_parquet(folder / "t.parquet", index=False)
    _make_weights(folder)
    _make_stores(folder, Path(finished.store_url.removeprefix("sqlite:///")))
    return folder


def _make_weights(folder: Path) -> None:
    weights = build("lenet5-mini", InputShape(channels=1, height=32, width=32, classes=10)).state_dict()
    save_file(weights, folder / "good.safetensors")
    save_file({**weights, "conv1.weight": torch.full((10, 1, 5, 5), float("nan"))}, folder / "nan.safetensors")
    save_file({"w": torch.zeros(3)}, folder / "other.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "good.safetensors").read_bytes()[:1000])
    torch.save(weights, folder / "pickled.safetensors")


def _make_stores(folder: Path, good: Path) -> None:
    changes = {
        "good": "SELECT 1",
        "newer": "UPDATE meta SET value = '999' WHERE key = 'schema'",
        "unversioned": "UPDATE meta SET value = '' WHERE key = 'schema'",
        "flipped": "UPDATE trials SET test_accuracy = test_accuracy + 0.01 WHERE repeat = 1",
        "failed": "UPDATE trials SET outcome = 'FAILED', test_accuracy = NULL, checksum = NULL",
    }
    for name, change in changes.items():
        with sqlite3.connect(good) as source, sqlite3.connect(folder / f"{name}.db") as copy:
            source.backup(copy)
            copy.execute(change)
        source.close()
        copy.close()
    with sqlite3.connect(folder / "other.db") as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    other.close()
    whole = (folder / "good.db").read_bytes()
    (folder / "cut.db").write_bytes(whole[: len(whole) // 2])


def content(folder: Path) -> dict[str, str]:
    """Every file with the digest of what is in it, and every folder; what Python compiles of `own.py` aside."""
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    return {str(path): sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in folder.rglob("*")}


@pytest.mark.parametrize(("line", "answer"), LINES, ids=[line for line, _ in LINES])
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    line: str, answer: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.argv", ["trueoracle", *shlex.split(line)])
    before = content(place)
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr()
    assert end.value.code == 2
    assert told.err.startswith(f"error: {answer}")
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert content(place) == before


def test_every_command_is_on_the_list() -> None:
    listed = {line.split()[0] for line, _ in LINES if line}
    assert {"studies", "run", "serve"} < set(get_command(app).commands) <= listed  # type: ignore[attr-defined]
    assert len(LINES) >= 100


def test_without_a_word_all_commands_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["trueoracle"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    told = capsys.readouterr()
    assert "analyze" in told.out
    assert told.err == ""
