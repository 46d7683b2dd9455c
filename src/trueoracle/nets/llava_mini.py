"""LLaVA-Mini: the architecture of TinyLLaVA-3.1B (SigLIP, two-layer projection, Phi) at a size for one CPU core.

What `transformers` needs to build and feed it is made on the spot, in the cache folder: a configuration, an image
processor, and a tokenizer of plain bytes. Weights are not: a study trains them from its own seed.
"""

import json
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from trueoracle.words.folders import cache_folder

NAME = "llava-mini"
_SIDE, _PATCH = 32, 8
_BYTES = 256
_END, _PICTURE = "<end>", "<image>"


def llava_mini_folder() -> Path:
    """The folder that holds all but the weights; made where it is not there yet."""
    folder = cache_folder() / f"{NAME}-1"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(mkdtemp(dir=folder.parent))
        write_llava_mini(partial)
        try:
            partial.rename(folder)  # whole or not at all
        except OSError:  # another process was first
            shutil.rmtree(partial)
    return folder


def write_llava_mini(folder: Path) -> None:
    """Write configuration, image processor and tokenizer into an empty folder."""
    llava_mini_config().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    write_siglip_processor(folder, _SIDE)


def write_siglip_processor(folder: Path, side: int) -> None:
    """Write what SigLIP does to pictures: bicubic scaling to side x side, levels from -1 to 1."""
    processor = {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": side, "width": side},
        "resample": 3,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2))


def llava_mini_config() -> Any:
    """Three vision layers, of which two are used, sixteen tokens a picture; two language layers of eight heads."""
    from transformers import LlavaConfig, PhiConfig, SiglipVisionConfig

    return LlavaConfig(
        vision_config=SiglipVisionConfig(
            image_size=_SIDE,
            patch_size=_PATCH,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            vision_use_head=False,
        ),
        text_config=PhiConfig(
            vocab_size=_BYTES + 2,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=8,
            max_position_embeddings=512,
            bos_token_id=_BYTES,
            eos_token_id=_BYTES,
        ),
        image_token_index=_BYTES + 1,
        image_seq_length=(_SIDE // _PATCH) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="full",
    )


def byte_tokenizer() -> Any:
    """A token a byte, one that ends a text and one for pictures; no padding, which is not needed here."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    symbols = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=symbols, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(_END, special=True), AddedToken(_PICTURE, special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END)  # type: ignore[no-untyped-call]
