"""Check that rules rename and reshape exactly in both directions, and that errors name the tensor."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sa2va.checkpoints.key_map import Rule, Step, convert, to_native, to_official

RULES = (
    Rule.rename("blocks.{i}.norm{n}.{rest}", "layer.{i}.layer_norm{n}.{rest}"),
    Rule.split("blocks.{i}.qkv.{rest}", tuple(f"layer.{{i}}.{part}_proj.{{rest}}" for part in "qkv")),
    Rule.join([f"points.{i}.weight" for i in range(4)], "point_embed.weight"),
    Rule.copy("position", ("image.position", "prompt.position")),
    Rule.rename("blocks.{i}.{rest}", "layer.{i}.{rest}"),
)


def make_tensors(numbers: list[int], width: int) -> dict[str, Tensor]:
    """Return official tensors of the blocks with these numbers, and the tensors outside of blocks."""
    tensors = {"position": torch.randn(2, width)}
    tensors |= {f"points.{i}.weight": torch.randn(1, width) for i in range(4)}
    for number in numbers:
        tensors |= {
            f"blocks.{number}.norm1.weight": torch.randn(width),
            f"blocks.{number}.norm12.bias": torch.randn(width),
            f"blocks.{number}.qkv.weight": torch.randn(3 * width, width),
            f"blocks.{number}.qkv.bias": torch.randn(3 * width),
            f"blocks.{number}.scale": torch.randn(()),
        }
    return tensors


@settings(deadline=None)  # a busy machine
@given(numbers=st.lists(st.integers(0, 40), max_size=3, unique=True), width=st.integers(1, 4), order=st.randoms())
def test_there_and_back_is_the_same(numbers: list[int], width: int, order: st.DrawFn) -> None:
    tensors = make_tensors(numbers, width)
    names = list(tensors)
    order.shuffle(names)
    native = dict(convert(to_native(RULES, names), tensors.__getitem__))
    assert len(native) == 3 + 9 * len(numbers)
    back = dict(convert(to_official(RULES, list(native)), native.__getitem__))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor)


def test_every_kind_of_rule_by_hand() -> None:
    tensors = make_tensors([7], 2)
    native = dict(convert(to_native(RULES, list(tensors)), tensors.__getitem__))
    assert torch.equal(native["layer.7.layer_norm12.bias"], tensors["blocks.7.norm12.bias"])
    assert torch.equal(native["layer.7.k_proj.weight"], tensors["blocks.7.qkv.weight"][2:4])
    assert torch.equal(native["point_embed.weight"][3:], tensors["points.3.weight"])
    assert torch.equal(native["layer.7.scale"], tensors["blocks.7.scale"])
    assert torch.equal(native["image.position"], native["prompt.position"])
    assert native["image.position"].data_ptr() != native["prompt.position"].data_ptr()


def test_names_are_matched_whole_and_literally() -> None:
    rules = (Rule.rename("a.b{i}", "c{i}"),)
    for name in ("axb1", "a.b", "a.bx", "xa.b1", "a.b1.weight"):
        with pytest.raises(ValueError, match="is unknown"):
            to_native(rules, [name])
    assert to_native(rules, ["a.b12"])[0].targets == ("c12",)


def test_a_prefix_is_added_on_each_side() -> None:
    rule = RULES[1].under("outer.", "inner.part.")
    (step,) = to_native((rule,), ["outer.blocks.3.qkv.bias"])
    assert step.targets == tuple(f"inner.part.layer.3.{part}_proj.bias" for part in "qkv")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["colour"], "tensor colour is unknown"),
        (["points.0.weight"], r"tensor points.1.weight is missing, although points.0.weight is there"),
        (["blocks.1.norm1.w", "blocks.1.layer_norm1.w"], "both map to layer.1.layer_norm1.w"),
    ],
)
def test_names_that_do_not_fit_are_named(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_native(RULES, names)


@pytest.mark.parametrize(
    ("step", "tensors", "message"),
    [
        (
            to_native(RULES, ["blocks.1.qkv.bias"])[0],
            [torch.zeros(7)],
            r"blocks.1.qkv.bias: .*\(7,\) cannot be cut into 3",
        ),
        (
            to_official(RULES, ["image.position", "prompt.position"])[0],
            [torch.zeros(2), torch.ones(2)],
            "image.position, prompt.position: tensors that must be equal differ",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(step: Step, tensors: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        step.run(tensors)


def test_few_tensors_are_held_at_a_time() -> None:
    tensors = make_tensors([0, 1], 2)
    asked: list[str] = []
    made = convert(to_native(RULES, list(tensors)), lambda name: asked.append(name) or tensors[name])
    assert next(made)[0] == "image.position"
    assert asked == ["position"]
