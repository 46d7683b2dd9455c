"""Datasets: found by name, decoded once, each split one tensor on the device."""

from trueoracle.data.catalogue import DATASETS, find_dataset
from trueoracle.data.source import RawData, RawSplit, Source
from trueoracle.data.split import Dataset, Split, images_of, load_dataset
from trueoracle.data.subset import subset

__all__ = [
    "DATASETS",
    "Dataset",
    "RawData",
    "RawSplit",
    "Source",
    "Split",
    "find_dataset",
    "images_of",
    "load_dataset",
    "subset",
]
