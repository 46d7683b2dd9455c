"""Questions: losses and exact match by hand and by generation; how they are read; what is said of bad sets."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from trueoracle.data import Dataset, Drawn, Questions, dataset_shape, load_dataset, subset
from trueoracle.data.reader import reader
from trueoracle.fleet import train
from trueoracle.nets import build, evaluate
from trueoracle.nets.llava_mini import byte_tokenizer, llava_mini_config, llava_mini_folder, write_llava_mini
from trueoracle.words.errors import DataError
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import TextShape
from trueoracle.words.spec import Recipe

CPU = torch.device("cpu")
MINI = Drawn(model="llava-mini")


class Certain(nn.Module):
    """Says that token t is followed by t + 1, with logit 2 against 0, in a vocabulary of ten."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.weight * F.one_hot((input_ids + 1) % 10, 10).float())


def by_hand() -> Questions:
    """Prompts 1 2 | answers 3 4 5; 7 | 8 9 with its end foretold; 1 | 3 4, begun wrong."""
    return Questions(
        tokens_NT=torch.tensor([[1, 2, 3, 4, 5], [7, 8, 9, 0, 0], [1, 3, 4, 0, 0]]),
        begins_N=torch.tensor([2, 1, 1]),
        ends_N=torch.tensor([5, 3, 3]),
    )


def test_losses_and_exact_match_by_hand() -> None:
    judged = by_hand().judge(Certain())
    right = np.log(np.exp(2) + 9) - 2  # the cross-entropy of a token that is foretold
    wrong = np.log(np.exp(2) + 9)
    expected = torch.tensor([right, right, (wrong + right) / 2])
    torch.testing.assert_close(judged.loss_B, expected.double(), rtol=1e-6, atol=0)
    assert judged.right_B.tolist() == [True, True, False]
    found = evaluate(Certain(), by_hand())
    assert (found.loss, found.accuracy) == (pytest.approx(expected.mean().item()), pytest.approx(2 / 3))
    assert by_hand().train_loss(Certain()).item() == pytest.approx(found.loss)


def test_the_train_loss_is_the_weighed_cross_entropy_of_what_is_foretold() -> None:
    net, questions = Certain(), by_hand()
    found = questions.foretell(net)
    each = F.cross_entropy(found.logits_AK, found.targets_A, reduction="none")
    assert (each * found.weight_A).sum().item() == pytest.approx(questions.train_loss(net).item(), rel=1e-6)
    assert found.weight_A.sum().item() == pytest.approx(1)


def test_neither_padding_nor_the_batch_counts() -> None:
    net = build("llava-mini", TextShape(), 1).double()
    alone, together = some_questions(net), some_questions(net)
    together = Questions(
        tokens_NT=F.pad(together.tokens_NT, (0, 7), value=9), begins_N=together.begins_N, ends_N=together.ends_N
    )
    one_by_one = [alone.take(slice(n, n + 1)).judge(net).loss_B for n in range(len(alone))]
    torch.testing.assert_close(together.judge(net).loss_B, torch.cat(one_by_one), rtol=1e-9, atol=1e-9)


def some_questions(net: nn.Module) -> Questions:
    """Four texts, of which the second and fourth go on as `net` itself goes on, greedily."""
    chance = torch.Generator().manual_seed(0)
    tokens = torch.randint(256, (4, 14), generator=chance)
    for n in (1, 3):
        for t in range(9, 14):
            tokens[n, t] = net(input_ids=tokens[n : n + 1, :t]).logits[0, -1].argmax()
    return Questions(tokens_NT=tokens, begins_N=torch.tensor([9, 9, 5, 9]), ends_N=torch.tensor([14, 14, 10, 12]))


def test_right_is_what_greedy_generation_says() -> None:
    net = build("llava-mini", TextShape(), 1).double()
    questions = some_questions(net)
    said = []
    for tokens, begin, end in zip(questions.tokens_NT, questions.begins_N, questions.ends_N, strict=True):
        prompt = tokens[None, :begin]
        generated = net.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
            max_new_tokens=int(end - begin), eos_token_id=-1, pad_token_id=0,
        )  # fmt: skip
        said.append(torch.equal(generated[0], tokens[:end]))
    assert said == [False, True, False, True]
    assert questions.judge(net).right_B.tolist() == said


def test_a_model_learns_what_it_is_asked_about_pictures() -> None:
    pixels = torch.stack([torch.full((3, 32, 32), level) for level in (-1.0, 1.0)])
    reads = reader(str(llava_mini_folder()))
    rows = [reads.read("How bright?", answer, True) for answer in ("dark", "light")]
    longest = max(len(row.tokens) for row in rows)
    split = Questions(
        tokens_NT=torch.tensor([row.tokens + [0] * (longest - len(row.tokens)) for row in rows]),
        begins_N=torch.tensor([row.begins for row in rows]),
        ends_N=torch.tensor([len(row.tokens) for row in rows]),
        pictures_PCHW=pixels,
        picture_N=torch.tensor([0, 1]),
    )
    data = Dataset(name="brightness", shape=TextShape(), train=split, test=split, fingerprint="")
    recipe = Recipe(optimiser="adamw", lr=3e-3, batch_size=2, epochs=40)
    trained = train(build("llava-mini", TextShape(), 1), data, recipe, order_seed=0)
    assert trained.curve[0].test_accuracy == 0
    assert trained.curve[-1].test_accuracy == 1
    assert trained.curve[-1].test_loss < 0.1
    swapped = Questions(**{**vars(split), "picture_N": torch.tensor([1, 0])})
    assert evaluate(trained.net, swapped).accuracy == 0


def test_a_question_is_read_as_prompt_pictures_answer_and_end() -> None:
    reads = reader(str(llava_mini_folder()))
    read = reads.read("What?", " a frog ", True)
    text = reads.tokenizer.decode(read.tokens)
    assert text == "USER: " + "<image>" * 16 + "\nWhat? ASSISTANT: a frog<end>"
    assert reads.tokenizer.decode(read.tokens[read.begins :]) == " a frog<end>"
    assert reads.tokenizer.decode(reads.read("What?", "it", False).tokens) == "USER: \nWhat? ASSISTANT: it<end>"


def test_a_chat_template_is_the_prompt_where_there_is_one(tmp_path: Path) -> None:
    write_llava_mini(tmp_path)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for turn in messages %}[{% for part in turn.content %}"
        "{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}]{% endfor %}{{ '>' }}"
    )
    tokenizer.save_pretrained(tmp_path)
    reads = reader(str(tmp_path))
    assert reads.tokenizer.decode(reads.read("Hm?", "no", True).tokens) == "[" + "<image>" * 16 + "Hm?]> no<end>"


def picture(level: int) -> dict[str, Any]:
    file = BytesIO()
    Image.new("RGB", (40, 30), (level, 0, 0)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def folder(at: Path, test: dict[str, list[Any]] | None = None, **train_columns: list[Any]) -> str:
    """A set of three questions about two pictures, or about these columns."""
    columns: dict[str, list[Any]] = {
        "image": [picture(0), picture(200), picture(0)],
        "question": ["What?", "Which?", "Why so?"],
        "answer": ["a", "bc", "d"],
    }
    columns.update(train_columns)
    columns = {name: values for name, values in columns.items() if values}
    at.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), at / "train-0.parquet")
    pq.write_table(pa.table(test or columns), at / "test-0.parquet")
    return f"qa:{at}"


def loaded(name: str, drawn: Drawn = MINI, data_dir: Path | None = None) -> Dataset:
    return load_dataset(name, data_dir, CPU, Quiet(), drawn=drawn)


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    name = folder(tmp_path / "set")
    data = loaded(name)
    assert dataset_shape(name) == data.shape == TextShape()
    train_split = data.train
    assert isinstance(train_split, Questions)
    assert train_split.pictures_PCHW is not None
    assert train_split.pictures_PCHW.shape == (2, 3, 32, 32)  # two questions are about one picture
    assert train_split.picture_N is not None
    assert train_split.picture_N.tolist() == [0, 1, 0]
    torch.testing.assert_close(
        train_split.pictures_PCHW[1, 0], torch.full((32, 32), 200 / 127.5 - 1), rtol=0, atol=1e-5
    )
    assert (train_split.ends_N - train_split.begins_N).tolist() == [3, 4, 3]  # a space, the answer, its end
    assert loaded("qa:set", data_dir=tmp_path).fingerprint == data.fingerprint


def test_only_drawn_questions_are_decoded(tmp_path: Path) -> None:
    broken = {"bytes": b"no picture", "path": None}
    everything = loaded(folder(tmp_path / "a", question=["0?", "1?", "2?"], image=[picture(n) for n in range(3)]))
    for seed in range(4):
        chosen = np.sort(np.random.default_rng(seed).permutation(3)[:2]).tolist()
        images = [picture(n) if n in chosen else broken for n in range(3)]
        name = folder(tmp_path / f"b{seed}", question=["0?", "1?", "2?"], image=images, test=None)
        with pytest.raises(DataError, match="row .: the picture cannot be decoded"):
            loaded(name)
        drawn = Drawn(model="llava-mini", train=2, seed=seed)
        folder(
            tmp_path / f"b{seed}", question=["0?", "1?", "2?"], image=images, test={"question": ["?"], "answer": ["!"]}
        )
        part = loaded(name, drawn).train
        longest = part.tokens_NT.shape[1]  # type: ignore[attr-defined]
        assert torch.equal(part.tokens_NT, everything.train.tokens_NT[chosen, :longest])  # type: ignore[attr-defined]


def test_questions_without_pictures_for_a_model_that_cannot_see(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=258, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    model.save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    source = f"hf:{tmp_path / 'model'}"
    data = loaded(folder(tmp_path / "set", image=[]), Drawn(model=source))
    found = evaluate(build(source, TextShape()), data.train)
    assert found.loss == pytest.approx(np.log(258), rel=0.05)
    with pytest.raises(DataError, match="row 0: `.*model` cannot see, but the questions are about pictures"):
        loaded(folder(tmp_path / "seen"), Drawn(model=source))


def test_cifar10_is_asked_about_with_true_answers(cifar10_part: Callable[[Path, int], None], tmp_path: Path) -> None:
    cifar10_part(tmp_path, 100)
    data = loaded("qa:cifar10", Drawn(model="llava-mini", train=60, test=20), tmp_path)
    tokenizer = byte_tokenizer()
    split = data.train
    assert isinstance(split, Questions)
    answers = {
        tokenizer.decode(row[begin : end - 1]).strip()
        for row, begin, end in zip(split.tokens_NT, split.begins_N, split.ends_N, strict=True)
    }
    assert {"yes", "no", "a frog"} <= answers
    assert len(split) == 60
    assert len(subset(data, 10, None, 0).train) == 10


BAD_SETS = [
    ({"answer": []}, "no column `answer` or `multiple_choice_answer`; it has image, question"),
    ({"question": []}, "no column `question`; it has image, answer"),
    ({"answer": ["a", None, "b"]}, "row 1: `answer` must be text, but is None"),
    ({"answer": ["a", "b", " "]}, "row 2: the answer to 'Why so\\?' is empty"),
    ({"image": [picture(0), None, picture(0)]}, "row 1: all questions must be about pictures or none"),
    (
        {"question": ["a", "b" * 600, "c"]},
        "row 1: the question 'b+\\.\\.\\.' takes 638 tokens with its answer, but .* takes in 512",
    ),
]


@pytest.mark.parametrize(("columns", "message"), BAD_SETS)
def test_what_is_said_of_a_bad_set(columns: dict[str, list[Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as problem:
        loaded(folder(tmp_path / "set", **columns))
    assert "\n" not in str(problem.value)


def test_what_is_said_of_a_missing_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder `none`, here or in"):
        loaded("qa:none", data_dir=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no train\*.parquet"):
        loaded(f"qa:{tmp_path / 'empty'}")
    with pytest.raises(DataError, match="`train_images` must be at most 3, all that .* has, but got 4"):
        loaded(folder(tmp_path / "set"), Drawn(model="llava-mini", train=4))
    with pytest.raises(DataError, match="asks questions, which llava-mini or .* reads, not `resnet56`"):
        loaded(folder(tmp_path / "set"), Drawn(model="resnet56"))


def test_what_is_said_of_a_model_that_does_not_fit_its_tokenizer(tmp_path: Path) -> None:
    def said(change: str, **facts: Any) -> str:
        at = tmp_path / change
        at.mkdir()
        write_llava_mini(at)
        config = llava_mini_config()
        tokenizer = byte_tokenizer()
        for name, value in facts.items():
            owner = {"vocab_size": config.text_config, "image_size": config.vision_config, "eos_token": tokenizer}
            setattr(owner.get(name, config), name, value)
        config.save_pretrained(at)
        tokenizer.save_pretrained(at)
        with pytest.raises(DataError) as problem:
            loaded(folder(tmp_path / "set"), Drawn(model=f"hf:{at}"))
        return str(problem.value)

    assert "has no token that ends a text: set its `eos_token`" in said("end", eos_token=None)
    assert "has no token 300 of its own" in said("picture", image_token_id=300)
    assert "gives token 257, but the model knows 200" in said("vocabulary", vocab_size=200)
    assert "makes pictures of shape (3, 32, 32), but its vision tower takes (3, 64, 64)" in said("side", image_size=64)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="the configuration of `.*nothing` cannot be loaded"):
        loaded(folder(tmp_path / "set"), Drawn(model=f"hf:{tmp_path / 'nothing'}"))
