"""Datasets: found by name or path, decoded once; what is small lies on the device, the rest is read a batch at a time."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.data.augment import Augmenter
    from trueoracle.data.chance import torch_seeded
    from trueoracle.data.datasets import DATASETS, find_dataset
    from trueoracle.data.hub import HubData
    from trueoracle.data.load import load_dataset
    from trueoracle.data.noised import Noised, images_behind, names_noise, noised
    from trueoracle.data.normalisation import Normalisation
    from trueoracle.data.pictures import Pixels
    from trueoracle.data.question_sets import Drawn, dataset_shape
    from trueoracle.data.questions import Questions
    from trueoracle.data.source import RawData, RawSplit, Source
    from trueoracle.data.split import Dataset, Split
    from trueoracle.data.stored import StoredSplit, images_of
    from trueoracle.data.subset import held_out, subset

__all__ = [
    "DATASETS",
    "Augmenter",
    "Dataset",
    "Drawn",
    "HubData",
    "Noised",
    "Normalisation",
    "Pixels",
    "Questions",
    "RawData",
    "RawSplit",
    "Source",
    "Split",
    "StoredSplit",
    "dataset_shape",
    "find_dataset",
    "held_out",
    "images_behind",
    "images_of",
    "load_dataset",
    "names_noise",
    "noised",
    "subset",
    "torch_seeded",
]

on_demand(__name__)
