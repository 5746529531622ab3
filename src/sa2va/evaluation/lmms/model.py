"""Run a model as a chat model of lmms-eval: text answers in batches, without masks.

Flow: lmms-eval -> Sa2VAChat.generate_until -> Predictor.answer_batch -> texts.
Source: the chat interface of lmms-eval 0.7.3, which alone imports this file (see plugin.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance  # ty: ignore
from lmms_eval.api.model import lmms  # ty: ignore
from tqdm import tqdm

import sa2va
from sa2va.evaluation.lmms.messages import speak, to_options, to_request
from sa2va.inference.requests import Options


class Sa2VAChat(lmms):
    """A Sa2VA model behind the interface of lmms-eval."""

    is_simple = False

    def __init__(
        self,
        pretrained: str = "tiny",
        batch_size: int | str = 1,
        device: str | None = None,
        num_keyframes: int | None = None,
        system_prompt: str = "",
        **arguments: Any,
    ) -> None:
        """Load a model.

        Args:
            pretrained: as the first argument of `sa2va.load`.
            batch_size: number of questions that go through the model together.
            device: as in `sa2va.load`.
            num_keyframes: frames of a video that the language model reads; None = as in training.
            system_prompt: text before every question.
            arguments: further arguments of `sa2va.load`.
        """
        super().__init__()
        arguments.pop("max_batch_size", None)
        self.predictor = sa2va.load(pretrained, device=device or "auto", **arguments)
        self.batch_size = 1 if batch_size == "auto" else int(batch_size)
        self.num_keyframes = None if num_keyframes is None else int(num_keyframes)
        self.system_prompt = system_prompt

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Answer each request; the order is kept.

        Raises:
            ValueError: media that cannot be read, or a prompt that is too long.
        """
        results: list[GenerationResult] = []
        with tqdm(total=len(requests), desc="Answering", disable=self.rank != 0) as bar:
            for block in self._blocks(requests):
                asked, options = zip(*map(self._read, block), strict=True)
                texts = [speak(one.text) for one in self.predictor.predict_batch(asked, options)]
                for instance, text in zip(block, texts, strict=True):
                    results.append(GenerationResult(text=text))
                    self.cache_hook.add_partial("generate_until", (instance.args[0], instance.args[2]), text)
                bar.update(len(block))
        return results

    def _blocks(self, requests: Sequence[Instance]) -> Iterator[Sequence[Instance]]:
        for start in range(0, len(requests), self.batch_size):
            yield requests[start : start + self.batch_size]

    def _read(self, instance: Instance) -> tuple[Any, Options]:
        _, build, arguments, document, task, split = instance.args
        messages = self._apply_system_prompt(build(self.task_dict[task][split][document]), self.system_prompt)
        options = to_options(arguments)
        most = self.predictor.model.mllm.max_places
        if most is not None and options.max_new_tokens > most // 2:  # as much as the context leaves
            options = to_options({**arguments, "max_new_tokens": None})
        return to_request(messages), replace(options, num_keyframes=self.num_keyframes)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Refuse: only generated answers are scored."""
        raise NotImplementedError("sa2va answers in text; use a task with output_type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refuse: several rounds are not implemented."""
        raise NotImplementedError("sa2va answers one question at a time; use a task with output_type generate_until")
