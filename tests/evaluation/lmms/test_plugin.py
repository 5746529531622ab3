"""Check the plug-in of lmms-eval: its entry point, the model class, batches, images, videos and options."""

import tomllib
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from evaluation.lmms.conftest import Talker
from PIL import Image
from support.lint import ROOT

from sa2va.evaluation.lmms import plugin
from sa2va.inference.requests import DEFAULT_NEW_TOKENS

PICTURE = Image.fromarray(np.zeros((4, 6, 3), np.uint8))


def test_the_entry_point_is_the_manifest() -> None:
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["lmms_eval.models"]
    module, _, name = entries["sa2va"].partition(":")
    assert getattr(import_module(module), name) is plugin.manifest


def test_the_harness_finds_a_chat_model() -> None:
    registry = pytest.importorskip("lmms_eval.models.registry_v2").ModelRegistryV2()
    registry.register_manifest(plugin.manifest())
    found = registry.get_model_class("sa2va")
    assert found.__module__ == "sa2va.evaluation.lmms.model" and not found.is_simple


def build(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> tuple[Any, Talker]:
    pytest.importorskip("lmms_eval")
    from sa2va.evaluation.lmms.model import Sa2VAChat

    talker, loaded = Talker(lambda prompt: f"[SEG] {prompt}!"), []
    monkeypatch.setattr("sa2va.load", lambda name, **options: loaded.append((name, options)) or talker)
    model = Sa2VAChat("some/model", **arguments)
    assert loaded == [("some/model", {"device": "auto"})]
    return model, talker


def ask(model: Any, *several: tuple[list[dict[str, Any]], dict[str, Any]]) -> list[str]:
    """Ask questions, each with its media and generation arguments, as the harness does."""
    model.task_dict = {"task": {"test": [media for media, _ in several]}}
    instances = []
    for number, (_, arguments) in enumerate(several):

        def build(media: Any, number: int = number) -> Any:
            return [{"role": "user", "content": [*media, {"type": "text", "text": f"q{number}"}]}]

        instances.append(SimpleNamespace(args=("", build, arguments, number, "task", "test")))
    return [one.text for one in model.generate_until(instances)]


def test_questions_are_answered_in_order_and_in_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, talker = build(monkeypatch, batch_size="2", num_keyframes="3", system_prompt="Be brief.")
    picture = {"type": "image", "url": PICTURE}
    sizes, answer = [], talker.predict_batch
    monkeypatch.setattr(
        talker, "predict_batch", lambda asked, options: sizes.append(len(asked)) or answer(asked, options)
    )
    texts = ask(
        model,
        ([picture], {"until": ["\n\n"], "max_new_tokens": 16}),
        ([picture, picture], {"do_sample": True, "temperature": 0.5, "top_p": 0.8}),
        ([picture], {"max_new_tokens": 4096}),
    )
    assert texts == [f"Be brief.\nq{number}!" for number in range(3)] and sizes == [2, 1]
    one, two, three = talker.options
    assert (one.stop, one.max_new_tokens, one.temperature, one.max_objects) == (("\n\n",), 16, 0.0, 0)
    assert (two.temperature, two.top_p, two.num_keyframes) == (0.5, 0.8, 3)
    assert three.max_new_tokens == DEFAULT_NEW_TOKENS  # more than half of the context: as much as it leaves
    assert talker.requests[0].media is PICTURE and talker.requests[1].images == [PICTURE] * 2


def test_other_kinds_of_tasks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = build(monkeypatch)
    for refuse in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(NotImplementedError, match="generate_until"):
            refuse([])
