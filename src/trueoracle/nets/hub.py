"""Models as `transformers` keeps them, on the hub or in a folder: safetensors alone, and no code that comes with one."""

from typing import Any

import torch

from trueoracle.words.errors import ModelError


def read(kind: Any, source: str, **how: Any) -> Any:
    """What `kind.from_pretrained` makes of `OWNER/NAME`, `OWNER/NAME@REVISION` or a folder; `ModelError` if it cannot."""
    name, _, revision = source.partition("@")
    try:
        return kind.from_pretrained(name, revision=revision or "main", trust_remote_code=False, **how)
    except Exception as error:  # whatever the hub, the files or the configuration raise
        problem = " ".join(str(error).split())[:300]
        raise ModelError(f"the model `hf:{source}` cannot be loaded: {problem}") from error


def read_weights(kind: Any, source: str, **how: Any) -> tuple[Any, dict[str, Any]]:
    """The model in float32, and the report of which of its weights were found: names under `missing_keys` and so on."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    model, report = read(kind, source, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **how)
    return model, report


def check_weights(source: str, lacking: Any, besides: Any, misshapen: Any) -> None:
    """`ModelError` where the weights are not those of the model: whatever names are given are wrong."""
    for names, fault in (
        (lacking, "lack"),
        (besides, "have, besides what its configuration knows,"),
        (misshapen, "have in another shape"),
    ):
        if names:
            some = ", ".join(sorted(map(str, names))[:3])
            raise ModelError(f"the weights of `{source}` {fault} {some}: another model's?")
