"""Define the special tokens that connect text and pixels, and check user texts.

Flow: model/processor.py writes the tokens into prompts, model/mllm.py finds them, metrics strip them.
Source: Sa2VA, arXiv:2501.04001, section 3.2; InternVL2.5, arXiv:2412.05271 (image tokens).
"""

import re

SEG_TOKEN = "[SEG]"  # its hidden state becomes a SAM 2 prompt
PHRASE_TOKENS = ("<p>", "</p>")  # around a grounded phrase
REGION_TOKENS = ("<vp>", "</vp>")  # around the visual tokens of a marked region

# Order matters: published checkpoints add these five, in this order, after their base tokenizer.
ADDED_TOKENS = (SEG_TOKEN, *PHRASE_TOKENS, *REGION_TOKENS)

SEGMENT_REQUEST = "Please segment {}."  # prompt for the mask of an expression

IGNORE_INDEX = -100  # label of tokens excluded from the language loss


def strip_expression(text: str) -> str:
    """Strip white space and closing punctuation from an expression; "" if it has no word."""
    return re.sub(r"[\s.?]+\Z", "", text.strip())


def check_text(text: object, name: str) -> str:
    """Check that a value is a text that can be tokenized, and return it.

    Raises:
        ValueError: no text, an empty one, or invalid UTF-8.
    """
    if not isinstance(text, str):
        raise ValueError(f"{name} {text!r:.40}: expected text, got {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"the {name} is empty; write a question or a request")
    return require_utf8(text, name)


def require_utf8(text: str, name: str) -> str:
    """Check that a text is valid UTF-8, and return it. Invalid bytes reach Python as lone surrogates.

    Raises:
        ValueError: invalid UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        short = f"{text!r:.60}"
        raise ValueError(f"{name} {short}: is not valid UTF-8; convert it, as with iconv -f latin1 -t utf-8") from None
    return text
