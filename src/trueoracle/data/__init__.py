"""Datasets: found by name, decoded once, each split one tensor on the device."""

from trueoracle.data.catalogue import DATASETS, find_dataset
from trueoracle.data.source import RawData, RawSplit, Source
from trueoracle.data.split import Dataset, Split, load_dataset
from trueoracle.data.subset import subset

__all__ = ["DATASETS", "Dataset", "RawData", "RawSplit", "Source", "Split", "find_dataset", "load_dataset", "subset"]
