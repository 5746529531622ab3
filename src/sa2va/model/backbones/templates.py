"""Hold the chat templates of the published models; none of them writes a system turn.

Flow: Sa2VAConfig.template -> find_template -> processor.py writes prompts with it, mllm.py stops at its end.
Source: the prompt templates of the released Sa2VA inference code.
"""

from dataclasses import dataclass

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True, kw_only=True)
class Template:
    """Text around questions and answers; special tokens in it are meant as such."""

    before_question: str
    before_answer: str  # ends the question
    end: str  # ends the answer
    between: str = "\n"  # what follows an ended answer when the talk goes on
    stops: tuple[str, ...] = ()  # further tokens at which an answer ends, where the tokenizer has them


_CHATML = Template(
    before_question=f"{TURN_START}user\n",
    before_answer=f"{TURN_END}\n{TURN_START}assistant\n",
    end=TURN_END,
    stops=("<|endoftext|>",),
)

TEMPLATES = {
    "qwen_chat": _CHATML,
    "internlm2_chat": _CHATML,  # the same text; its tokenizer puts a token in front of all
    "phi3_chat": Template(before_question="<|user|>\n", before_answer="<|end|>\n<|assistant|>\n", end="<|end|>"),
}


def find_template(name: str) -> Template:
    """Return the template called `name`.

    Raises:
        ValueError: there is none.
    """
    if name not in TEMPLATES:
        raise ValueError(f"unknown chat template {name!r}; known: {', '.join(TEMPLATES)}")
    return TEMPLATES[name]
