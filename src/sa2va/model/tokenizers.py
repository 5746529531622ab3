"""Load the tokenizer of a model folder from its files, whatever form they have, without running code from it.

Flow: tokenizer.json -> a native fast tokenizer.
"""

from pathlib import Path

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SUBFOLDER = "tokenizer"


def tokenizer_folder(folder: Path) -> Path:
    """Return where a model folder keeps its tokenizer: in a subfolder of that name, or beside the weights."""
    below = folder / SUBFOLDER
    return below if below.is_dir() else folder


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder."""
    return PreTrainedTokenizerFast.from_pretrained(tokenizer_folder(folder))
