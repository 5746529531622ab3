"""List the chat templates of the published models.

Flow: Sa2VAConfig.template -> find_template -> processor.py (prompts, end of an answer).
Source: the prompt templates of the released Sa2VA inference code.
"""

from dataclasses import dataclass, replace

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True, kw_only=True)
class Template:
    """Chat template. Special tokens in it are tokenized as such."""

    system: str  # system turn; {} is its text
    before_question: str
    before_answer: str  # ends the question
    end: str  # ends the answer: a token, or plain text if the tokenizer has no such token
    between: str = "\n"  # text between an answer and the next question
    stops: tuple[str, ...] = ()  # additional stop strings


_INTERNLM2 = Template(
    system=f"{TURN_START}system\n{{}}{TURN_END}\n",
    before_question=f"{TURN_START}user\n",
    before_answer=f"{TURN_END}\n{TURN_START}assistant\n",
    end=TURN_END,
)

TEMPLATES = {
    "internlm2_chat": _INTERNLM2,
    "qwen_chat": replace(_INTERNLM2, stops=("<|endoftext|>",)),
    # Also used by the published 4B model, whose Qwen tokenizer reads these tokens as plain text.
    "phi3_chat": Template(
        system="<|system|>\n{}<|end|>\n",
        before_question="<|user|>\n",
        before_answer="<|end|>\n<|assistant|>\n",
        end="<|end|>",
    ),
    "vicuna": Template(system="{}\n", before_question="USER: ", before_answer=" ASSISTANT:", end="</s>"),
}


def find_template(name: str) -> Template:
    """Return the template called `name`.

    Raises:
        ValueError: unknown name.
    """
    if name not in TEMPLATES:
        raise ValueError(f"unknown chat template {name!r}; known: {', '.join(TEMPLATES)}")
    return TEMPLATES[name]
