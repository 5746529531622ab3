"""Write the questions that evaluation asks: as our models are trained, or as the paper's was asked.

Flow: Expression, wording -> question_for -> Request.prompt; captions have one question each. The wording is part of a
    benchmark's protocol.
Source: the evaluation scripts of github.com/bytedance/Sa2VA. `sa2va segment` asks every model in our wording.
"""

from typing import Literal, get_args

from sa2va.data import prompts
from sa2va.data.referring import Expression, question_of

Wording = Literal["ours", "released"]
WORDINGS: tuple[Wording, ...] = get_args(Wording)
EXAMPLE = Expression("EXPRESSION", (0,))

PICTURE = " Please segment {} in this image."  # with the space that the released script writes before it
CLIP = "Please segment {}."
QUESTION = "{} Please respond with segmentation mask."
GROUNDED_CAPTION: dict[Wording, str] = {
    "ours": prompts.GROUNDED_CAPTION[0],
    # With the spaces of a continued line of the released script.
    "released": "Could you please give me a brief description of the image? Please respond with interleaved     "
    "segmentation masks for the corresponding parts of the answer.",
}
REGION: dict[Wording, str] = {
    "ours": prompts.REGION[0].format("region1"),
    "released": "Please give me a short description of the region in the picture marked by region1.",
}


def question_for(expression: Expression, wording: Wording, *, is_clip: bool = False) -> str:
    """Write the question for an expression.

    Args:
        expression: a noun phrase, a question or a sentence.
        wording: "ours" is what our models are trained on; "released" is that of the released evaluation, which the
            published figures come from.
        is_clip: whether it is about a clip.
    """
    if wording == "ours":
        return question_of(expression)
    if "?" in expression.text or expression.is_sentence:
        return QUESTION.format(expression.text)
    return (CLIP if is_clip else PICTURE).format(expression.text)


def state_protocol(wording: Wording, metrics: str, *, is_clip: bool = False) -> str:
    """State in a line how expressions are asked, which masks count, and what is measured."""
    question = question_for(EXAMPLE, wording, is_clip=is_clip)
    frames = "key frames as the model and its mode have them; " if is_clip else ""
    masks = "the union of all masks of an answer counts, no [SEG] is an empty mask"
    return f"{question!r}, one expression at a time; {frames}{masks}; {metrics}"
