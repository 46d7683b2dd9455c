"""Sentences about unknown names."""

from trueoracle.words.errors import unknown


def test_the_nearest_name_is_one_that_begins_so_or_is_spelt_alike() -> None:
    known = ["resnet56", "lenet5-mini", "vgg19"]
    assert unknown("model", "lenet5", known).startswith("unknown model `lenet5`: did you mean `lenet5-mini`? ")
    assert unknown("model", "vgg91", known).startswith("unknown model `vgg91`: did you mean `vgg19`? ")
    assert (
        unknown("model", "transformer", known) == "unknown model `transformer`: known are lenet5-mini, resnet56, vgg19"
    )
    assert unknown("site", "conv1", []) == "unknown site `conv1`: known are none"
