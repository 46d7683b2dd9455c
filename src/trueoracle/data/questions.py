"""Questions with their answers, on pictures or without, as a language model reads them: tokens on the device.

The loss of one question is the mean cross-entropy of its answer's tokens (nats), the token that ends the answer
among them, each predicted from all before it; a split's loss is the mean over its questions, so that each counts
alike however long its answer is. A question is answered right if the most probable token is the right one at every
place of the answer. That is exact match of the answer that greedy generation gives: as long as it has said what it
should, it is in the place where it was asked here.

Letters: N questions, T tokens, B batch, A answer tokens of a batch, P pictures, C channels, H x W pixels, V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.words.examples import Foretold, Judged

# Tokens of a forward pass without gradients.
_TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 16_384}


@dataclass(frozen=True, kw_only=True)
class Questions:
    """`tokens_NT` (int64) are prompt and answer; the answer begins at `begins_N` and ends before `ends_N`.

    Behind its end a row is padding. Question n is about the picture `pictures_PCHW[picture_N[n]]` (float32, as the
    model's own image processor gives it); both are None where there are no pictures.
    """

    tokens_NT: Tensor
    begins_N: Tensor
    ends_N: Tensor
    pictures_PCHW: Tensor | None = None
    picture_N: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens_NT)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.tokens_NT.device

    @property
    def at_once(self) -> int:
        """How many questions a forward pass is best given."""
        return max(1, _TOKENS_AT_ONCE[self.device.type] // self.tokens_NT.shape[1])

    def take(self, chosen: Tensor | slice) -> "Questions":
        """The questions at these places; pictures are shared, not copied."""
        return Questions(
            tokens_NT=self.tokens_NT[chosen],
            begins_N=self.begins_N[chosen],
            ends_N=self.ends_N[chosen],
            pictures_PCHW=self.pictures_PCHW,
            picture_N=None if self.picture_N is None else self.picture_N[chosen],
        )

    def train_loss(self, net: nn.Module) -> Tensor:
        """The mean loss of the questions, in the network's precision."""
        logits_AV, targets_A, question_A = self._answer_tokens(net)
        return self._mean(F.cross_entropy(logits_AV, targets_A, reduction="none"), question_A).mean()

    def judge(self, net: nn.Module) -> Judged:
        """Logits in the network's precision, cross-entropy in float64."""
        logits_AV, targets_A, question_A = self._answer_tokens(net)
        logits_AV = logits_AV.double()
        right_A = (logits_AV.argmax(1) == targets_A).double()
        return Judged(
            loss_B=self._mean(F.cross_entropy(logits_AV, targets_A, reduction="none"), question_A),
            right_B=self._mean(right_A, question_A) == 1,
        )

    def foretell(self, net: nn.Module) -> Foretold:
        """One answer a token; those of one question share its weight."""
        logits_AV, targets_A, question_A = self._answer_tokens(net)
        weight_B = 1 / (len(self) * (self.ends_N - self.begins_N))
        return Foretold(logits_AK=logits_AV, targets_A=targets_A, weight_A=weight_B[question_A])

    def _answer_tokens(self, net: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """For every answer token: the logits that foretell it, the token, and the place of its question."""
        tokens_BT = self.tokens_NT[:, : int(self.ends_N.max())]
        place_T = torch.arange(tokens_BT.shape[1], device=self.device)
        inputs = {"input_ids": tokens_BT, "attention_mask": (place_T < self.ends_N[:, None]).long(), "use_cache": False}
        if self.pictures_PCHW is not None:
            weight = next(net.parameters())
            inputs["pixel_values"] = self.pictures_PCHW[self.picture_N].to(weight.dtype)
        answer_BT = (place_T >= self.begins_N[:, None]) & (place_T < self.ends_N[:, None])
        logits_AV = net(**inputs).logits[:, :-1][answer_BT[:, 1:]]
        return logits_AV, tokens_BT[answer_BT], answer_BT.nonzero()[:, 0]

    def _mean(self, value_A: Tensor, question_A: Tensor) -> Tensor:
        """The mean of each question's answer tokens."""
        sums_B = value_A.new_zeros(len(self)).index_add(0, question_A, value_A)
        return sums_B / (self.ends_N - self.begins_N)
