"""What is true of every network: each is asked for its sites, and random masks over all of them are removed."""

import pytest
import torch

import zoo
from trueoracle.nets.probe import logits_of_noise

NETWORKS = {
    f"{group}: {name}": (factory, zoo.shape_of(group))
    for group, networks in (
        ("handmade", zoo.HANDMADE),
        ("classifiers", zoo.CLASSIFIERS),
        ("language", zoo.LANGUAGE),
    )
    for name, factory in networks.items()
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_answers_the_same_question_in_one_way(name: str) -> None:
    factory, shape = NETWORKS[name]
    net = zoo.made(factory)
    with torch.no_grad():
        first, again = (logits_of_noise(net, shape, 2) for _ in range(2))
    assert torch.equal(first, again)
    assert first.std() > 1e-3
