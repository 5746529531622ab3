"""Name the special tokens that carry meaning between text and pixels.

Flow: model/processor.py writes them into a prompt, model/mllm.py looks for them, metrics strip them.
Source: Sa2VA, arXiv:2501.04001, section 3.2; InternVL2.5, arXiv:2412.05271 (image tokens).
"""

SEG_TOKEN = "[SEG]"  # the state at this token becomes a SAM 2 prompt
PHRASE_TOKENS = ("<p>", "</p>")  # around a grounded phrase
REGION_TOKENS = ("<vp>", "</vp>")  # around the visual tokens of a marked region

# Order matters: published checkpoints add these five, in this order, after their base tokenizer.
ADDED_TOKENS = (SEG_TOKEN, *PHRASE_TOKENS, *REGION_TOKENS)

SEGMENT_REQUEST = "Please segment {}."  # for a mask of what an expression means

IGNORE_INDEX = -100  # a label that the language loss skips


def check_text(text: object, name: str) -> str:
    """Return what can be made into tokens, or say what is wrong with it.

    Raises:
        ValueError: it is no text, empty, or has bytes that are not UTF-8.
    """
    if not isinstance(text, str):
        raise ValueError(f"{name} {text!r:.40}: expected text, got {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"the {name} is empty; write a question or a request")
    return require_utf8(text, name)


def require_utf8(text: str, name: str) -> str:
    """Refuse a text with bytes that are not UTF-8, which reach Python as lone surrogates and no tokenizer takes.

    Raises:
        ValueError: there are such bytes.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        short = f"{text!r:.60}"
        raise ValueError(f"{name} {short}: is not valid UTF-8; convert it, as with iconv -f latin1 -t utf-8") from None
    return text
