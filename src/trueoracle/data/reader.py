"""How a language model reads a question: its tokenizer, its image processor, its prompt, all from its own folder."""

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from trueoracle.words.errors import DataError

_SHOWN = 60  # characters of a question in a message
SEES = ("llava",)
"""Kinds of models of `transformers` that see pictures and are known here."""


@dataclass(frozen=True, kw_only=True)
class Eyes:
    """How pictures come in: each is `token`, `count` times, in the prompt, and `processor` makes pixels of it."""

    token: str
    count: int
    processor: Any


@dataclass(frozen=True, kw_only=True)
class Read:
    """A question and its answer as tokens; the answer begins at `begins` and ends with the model's own end token."""

    tokens: list[int]
    begins: int


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Made by `reader`. `context` is how many tokens the model can take in, `vocabulary` how many it knows."""

    source: str
    tokenizer: Any
    context: int
    vocabulary: int
    eyes: Eyes | None

    def read(self, question: str, answer: str, sees_picture: bool) -> Read:
        """Prompt, answer and end as tokens; `DataError` for an empty answer or what the model cannot take in.

        The prompt is the model's own chat template if it has one, else that of LLaVA-1.5 for a model that sees, and
        `Question: ... Answer:` for one that does not.
        """
        if not answer.strip():
            raise DataError(f"the answer to {_short(question)!r} is empty")
        prompt, answer = self._prompt(question, sees_picture), answer.strip()
        separator = "" if prompt[-1:].isspace() else " "
        asked, whole = (self._tokens(text) for text in (prompt, f"{prompt}{separator}{answer}"))
        # A tokenizer may join the prompt's last characters with the answer's first.
        begins = next((i for i, (a, b) in enumerate(zip(asked, whole, strict=False)) if a != b), len(asked))
        tokens = [*whole, self.tokenizer.eos_token_id]
        if not 0 < begins < len(whole):
            raise DataError(f"the tokenizer of `{self.source}` finds no token in the answer {answer!r}")
        if len(tokens) > self.context:
            raise DataError(
                f"the question {_short(question)!r} takes {len(tokens)} tokens with its answer, but `{self.source}` takes in "
                f"{self.context} at most"
            )
        if max(tokens) >= self.vocabulary:
            raise DataError(
                f"the tokenizer of `{self.source}` gives token {max(tokens)}, but the model knows {self.vocabulary}: "
                "another model's tokenizer?"
            )
        return Read(tokens=tokens, begins=begins)

    def pixels(self, picture: Image.Image) -> Tensor:
        """(C, H, W) float32, as the model's image processor gives them."""
        if self.eyes is None:
            raise DataError(f"`{self.source}` cannot see, but the questions are about pictures")
        pixels: Tensor = self.eyes.processor([picture.convert("RGB")], return_tensors="pt").pixel_values[0]
        return pixels.float()

    def _prompt(self, question: str, sees_picture: bool) -> str:
        if self.tokenizer.chat_template:
            content = [{"type": "image"}, {"type": "text", "text": question}] if sees_picture else question
            turn = [{"role": "user", "content": content}]
            prompt: str = self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        elif self.eyes is not None:
            prompt = f"USER: {self.eyes.token if sees_picture else ''}\n{question} ASSISTANT:"
        else:
            prompt = f"Question: {question}\nAnswer:"
        if sees_picture and self.eyes is not None:
            if prompt.count(self.eyes.token) != 1:
                raise DataError(f"the prompt of `{self.source}` must hold `{self.eyes.token}` once, but is {prompt!r}")
            prompt = prompt.replace(self.eyes.token, self.eyes.token * self.eyes.count)
        return prompt

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer(text, add_special_tokens=not self.tokenizer.chat_template).input_ids
        if tokens and tokens[-1] == self.tokenizer.eos_token_id:  # some end every text; ours ends with the answer
            tokens = tokens[:-1]
        return tokens


def reader(source: str) -> Reader:
    """The reader of the model at `source`, a hub id (`OWNER/NAME@REVISION`) or a folder.

    `DataError` where its tokenizer or image processor cannot be had, or the tokenizer has no token that ends a text.
    """
    from transformers import AutoConfig, AutoTokenizer

    config = _loaded(AutoConfig, source, "configuration")
    tokenizer = _loaded(AutoTokenizer, source, "tokenizer")
    if tokenizer.eos_token_id is None:
        raise DataError(f"the tokenizer of `{source}` has no token that ends a text: set its `eos_token`")
    text = config.get_text_config()
    return Reader(
        source=source,
        tokenizer=tokenizer,
        context=int(getattr(text, "max_position_embeddings", 2**31)),
        vocabulary=int(text.vocab_size),
        eyes=_eyes(source, config, tokenizer) if config.model_type in SEES else None,
    )


def _eyes(source: str, config: Any, tokenizer: Any) -> Eyes:
    from transformers import AutoImageProcessor

    token = tokenizer.convert_ids_to_tokens(config.image_token_id) if config.image_token_id < len(tokenizer) else None
    if token is None or tokenizer.encode(token, add_special_tokens=False) != [config.image_token_id]:
        raise DataError(
            f"the tokenizer of `{source}` has no token {config.image_token_id} of its own, which the model's "
            "configuration has for pictures (`image_token_index`)"
        )
    processor = _loaded(AutoImageProcessor, source, "image processor", backend="pil")
    pixels = processor([Image.new("RGB", (64, 48))], return_tensors="pt").pixel_values[0]
    return Eyes(token=token, count=_tokens_a_picture(source, config, pixels), processor=processor)


def _tokens_a_picture(source: str, config: Any, pixels: Tensor) -> int:
    """Patches of a picture, with the vision tower's class token where that is passed on too."""
    vision = config.vision_config
    wanted = (3, vision.image_size, vision.image_size)
    if tuple(pixels.shape) != wanted:
        raise DataError(
            f"the image processor of `{source}` makes pictures of shape {tuple(pixels.shape)}, but its vision tower "
            f"takes {wanted}"
        )
    with_class = "clip" in vision.model_type and config.vision_feature_select_strategy == "full"
    without_first = "clip" not in vision.model_type and config.vision_feature_select_strategy == "default"
    return int((vision.image_size // vision.patch_size) ** 2) + with_class - without_first


def _loaded(kind: Any, source: str, what: str, **how: Any) -> Any:
    name, _, revision = source.partition("@")
    try:
        return kind.from_pretrained(name, revision=revision or "main", trust_remote_code=False, **how)
    except Exception as error:  # whatever the hub or the files raise
        problem = " ".join(str(error).split())[:300]
        raise DataError(f"the {what} of `{source}` cannot be loaded: {problem}") from error


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def padded(rows: list[list[int]], device: torch.device) -> Tensor:
    """(N, T): the rows with zeros behind their ends."""
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
