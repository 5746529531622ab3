"""Check the token loop: buffers that grow change no bit, steps of fixed shapes compile, the host waits once a token."""

from typing import Any

import numpy as np
import pytest
import torch
from support.fake_device import FakeDevice
from support.small_families import OFFICIAL, build_family
from torch import Tensor
from transformers import DynamicCache

from sa2va.inference import decoding, kv_cache
from sa2va.inference.compiling import compile_function
from sa2va.inference.decoding import Decoding, DecodingRules, TextStream, TokenStep
from sa2va.inference.engine import Engine
from sa2va.inference.requests import Options, Request
from sa2va.model.mllm import Mllm
from sa2va.model.processor import Processor
from sa2va.types import Frames, Turn

KINDS = list(OFFICIAL)
COMPILED = ["internvl_qwen2", "internvl_internlm2", "qwen2_5_vl", "qwen3_vl"]
PROMPTS = ("What?", "Which of these is the larger one?", "Both?")


class ConcatenatingCache(DynamicCache):
    """The stock cache, which copies all keys and values for each token."""

    def __init__(self, num_layers: int) -> None:
        super().__init__()

    def truncate(self, length: int) -> None:
        for layer in self.layers:
            if (added := layer.get_seq_length() - length) > 0:
                layer.crop(-added)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_cache, "BLOCK", 4)


def draw(*shape: int) -> Frames:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def fill(mllm: Mllm, processor: Processor, number: int, step: TokenStep | None = None) -> tuple[TextStream, Tensor]:
    """Prefill a stream with some prompts of different lengths; return it with their last states."""
    turns = [Turn(question=prompt, answer="") for prompt in PROMPTS[:number]]
    prompts = processor.prompts([(turn, [draw(1, 40, 90)]) for turn in turns])
    stream = TextStream(mllm, step)
    return stream, stream.start(mllm.embed_inputs(prompts))


def run_everything(kind: str, number: int, step: TokenStep | None = None) -> list[Tensor]:
    """Return the states of a stream that appends, probes, goes back and drops a row."""
    model, processor = build_family(kind)
    mllm = model.mllm
    stream, states = fill(mllm, processor, number, step)
    found, ids = [states], torch.arange(20, 20 + number)
    for _ in range(6):
        found.append(stream.append_token(ids))
    found.append(stream.probe(mllm.embed_tokens(ids[:, None].repeat(1, 5))))
    found.append(stream.append_token(ids + 1))
    mark = stream.mark()
    found.append(stream.append(mllm.embed_tokens(ids[:, None].repeat(1, 3))))
    stream.go_back(mark)
    found.append(stream.append_token(ids + 2))
    if number > 1:
        kept = torch.tensor([0, 2])
        stream.keep_rows(kept)
        ids = ids[kept]
    for _ in range(6):
        found.append(stream.append_token(ids + 3))
    assert stream.length == states.shape[1] + 14
    return found


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_buffers_that_grow_change_no_bit(kind: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_everything(kind, number)
    monkeypatch.setattr(decoding, "KvCache", ConcatenatingCache)
    wanted = run_everything(kind, number)
    assert [torch.equal(*pair) for pair in zip(found, wanted, strict=True)] == [True] * len(found)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_steps_of_fixed_shapes_equal_texts(kind: str, number: int) -> None:
    mllm = build_family(kind)[0].mllm
    for one, other in zip(run_everything(kind, number, mllm.token_step), run_everything(kind, number), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@torch.no_grad()
def test_a_token_writes_its_own_column_only() -> None:
    model, processor = build_family("internvl_qwen2")
    stream, _ = fill(model.mllm, processor, 1)
    for _ in range(9):
        layer = stream._cache._own[0]
        before, copied = layer.buffers[0].clone(), layer.buffers[0]
        stream.append_token(torch.tensor([20]))
        if layer.buffers[0] is copied:
            changed = (before != copied).any(dim=-1).any(dim=1)[0].nonzero().flatten().tolist()
            assert changed == [stream.length - 1]
        assert layer.buffers[0].shape[2] == -(-stream.length // 4) * 4


def decode(kind: str, number: int, step: TokenStep | None = None, length: int = 12) -> Decoding:
    """Decode greedy and sampled rows; one row ends early."""
    model, processor = build_family(kind)
    stream, states = fill(model.mllm, processor, number, step)
    rules = [
        DecodingRules(end_ids=(), seg_ids=range(300), max_new_tokens=length - row, temperature=row / 2, seed=row)
        for row in range(number)
    ]
    return Decoding(model.mllm, stream, states[:, -1], rules).finish()


@pytest.mark.parametrize("kind", COMPILED)
@torch.no_grad()
def test_one_token_traces_without_a_graph_break(kind: str) -> None:
    mllm = build_family(kind)[0].mllm
    mllm.fix_positions()
    torch._dynamo.reset()
    step = torch.compile(mllm.token_step, fullgraph=True, backend="eager")
    for number in (1, 3):
        found, wanted = decode(kind, number, step), decode(kind, number)
        assert found.token_ids == wanted.token_ids
        for row in range(number):
            assert torch.allclose(torch.stack(found.seg_states[row]), torch.stack(wanted.seg_states[row]), atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_a_compiled_token_gives_the_same_logits() -> None:
    mllm = build_family("internvl_qwen2")[0].mllm
    torch._dynamo.reset()
    step = compile_function(mllm.token_step)
    for one, other in zip(run_everything("internvl_qwen2", 3, step), run_everything("internvl_qwen2", 3), strict=True):
        assert torch.allclose(mllm.logits(one), mllm.logits(other), atol=1e-4)


def test_a_race_samples_as_multinomial_does() -> None:
    probabilities = torch.rand(50, generator=torch.Generator().manual_seed(0)).softmax(-1)
    made: dict[str, Any] = {name: torch.Generator().manual_seed(7) for name in ("race", "multinomial")}
    for _ in range(20):
        race = torch.empty_like(probabilities).exponential_(generator=made["race"])
        sampled = torch.multinomial(probabilities, 1, generator=made["multinomial"])
        assert int((probabilities / race).argmax()) == int(sampled)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("kind", COMPILED)
def test_the_host_waits_once_a_token(kind: str, number: int) -> None:
    engine, device = Engine(*build_family(kind)), FakeDevice()
    options = [
        Options(max_new_tokens=8 - row, temperature=row / 2, top_p=1 - row / 4, stop="?!") for row in range(number)
    ]
    queries = [engine.open(Request(draw(40, 90), prompt)) for prompt in PROMPTS[:number]]
    wanted = engine.decode(*engine.prefill(queries), options).finish()
    device.put(engine.model)
    with device:
        stream, last = engine.prefill(queries)
        # Only the native image encoders that take any size wait, for grids.
        assert not [place for place in device.take().waits if not place.startswith(("qwen2_5_vl.py", "qwen3_vl.py"))]
        found = engine.decode(stream, last, options)
        for _ in found:
            assert len(device.take().waits) == 1
    assert found.token_ids == wanted.token_ids
