"""What is known of a network after an epoch."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from trueoracle.data import Dataset
from trueoracle.nets import Evaluation, evaluate
from trueoracle.words.trial import Figures, SplitAnswers


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Figures on whole splits, and the answers image by image to those that are not trained on, by name."""

    figures: Figures
    answers: Mapping[str, SplitAnswers]

    @classmethod
    def of(cls, train: Evaluation, test: Evaluation, validation: Evaluation | None = None) -> "Evaluated":
        """From one evaluation a split."""
        figures = Figures(
            train_loss=train.loss,
            train_accuracy=train.accuracy,
            test_loss=test.loss,
            test_accuracy=test.accuracy,
            validation_loss=None if validation is None else validation.loss,
            validation_accuracy=None if validation is None else validation.accuracy,
        )
        answers = {"test": test.answers}
        if validation is not None:
            answers["validation"] = validation.answers
        return cls(figures=figures, answers=answers)


def evaluated(net: nn.Module, data: Dataset) -> Evaluated:
    """The network on every split, eval mode."""
    validation = None if data.validation is None else evaluate(net, data.validation)
    return Evaluated.of(evaluate(net, data.train), evaluate(net, data.test), validation)
