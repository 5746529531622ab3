"""Recognize a published Sa2VA folder by its config.json, and translate config and tensor names both ways.

Flow: config.json + tokenizer -> Sa2VAConfig and rules -> folder.py; Sa2VAConfig -> config.json of that layout.
Source: the model folders published with Sa2VA, arXiv:2501.04001.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from transformers import PreTrainedTokenizerBase

from sa2va.checkpoints import sam2_sizes
from sa2va.checkpoints.key_map import Rule
from sa2va.checkpoints.published import internvl, llava, qwen_vl
from sa2va.checkpoints.published.fields import ARCHITECTURE, MODEL_TYPE
from sa2va.checkpoints.sam2_keys import sam2_rules
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.catalog import find_family
from sa2va.tokens import ADDED_TOKENS

EXTRA_KEY = "sa2va"  # key in a published config.json for fields of ours that its layout lacks
SAM2_PREFIX = "grounding_encoder.sam2_model."
EXTRA_FIELDS = tuple(field.name for field in fields(Sa2VAConfig) if field.name not in ("family", "mllm", "sam2"))
PROJECTOR = {"text_hidden_fcs.0.{rest}": "projector.fc1.{rest}", "text_hidden_fcs.2.{rest}": "projector.fc2.{rest}"}


@dataclass(frozen=True)
class FamilyLayout:
    """Translation of one family's config.json and tensor names, without SAM 2 and projector."""

    # (official config.json, token -> id, chat template) -> fields of a Sa2VAConfig
    config_from_official: Callable[[dict[str, Any], dict[str, int], str], dict[str, Any]]
    config_to_official: Callable[[Sa2VAConfig], dict[str, Any]]
    key_rules: Callable[[dict[str, Any]], tuple[Rule, ...]]  # for the `mllm` part of a Sa2VAConfig


_QWEN_VL = FamilyLayout(qwen_vl.config_from_official, qwen_vl.config_to_official, qwen_vl.key_rules)
LAYOUTS: dict[str, FamilyLayout] = {
    "internvl": FamilyLayout(internvl.config_from_official, internvl.config_to_official, internvl.key_rules),
    "qwen2_5_vl": _QWEN_VL,
    "qwen3_vl": _QWEN_VL,
    "llava": FamilyLayout(llava.config_from_official, llava.config_to_official, llava.key_rules),
}


def is_published(values: dict[str, Any]) -> bool:
    """Return whether a config.json describes a Sa2VA model in the published layout."""
    architectures = values.get("architectures") or ()
    return values.get("model_type") == MODEL_TYPE or any(str(a).startswith(ARCHITECTURE) for a in architectures)


def recognize_family(official: dict[str, Any]) -> str:
    """Return the MLLM family of a published config.json.

    Raises:
        ValueError: the family is unknown.
    """
    kinds = [str((official.get(part) or {}).get("model_type", "")) for part in ("vision_config", "text_config")]
    if kinds[0].startswith("intern_vit") and "llm_config" in official:
        return "internvl"
    if kinds == ["clip_vision_model", "llama"]:
        return "llava"
    for family in LAYOUTS:
        if any(kind.startswith(family) for kind in kinds):
            return family
    name = ", ".join(map(str, official.get("architectures") or ["no architecture"]))
    raise ValueError(
        f"config.json: unknown architecture ({name} with vision model {kinds[0] or 'unnamed'!r}); "
        f"known families: {', '.join(LAYOUTS)}"
    )


def check_tokens(config: Sa2VAConfig, tokenizer: PreTrainedTokenizerBase, *, exact: bool) -> None:
    """Check that tokenizer and config belong together.

    Args:
        config: of the model.
        tokenizer: of the same folder.
        exact: the tokenizer has to fill the vocabulary, as in every published folder; a smaller one would map [SEG]
            to another embedding row.

    Raises:
        ValueError: a token is missing or has another id than the config says, or the sizes disagree.
    """
    known = tokenizer.get_vocab()
    for token in ADDED_TOKENS:
        if token not in known:
            raise ValueError(f"the tokenizer has no {token} token; a Sa2VA tokenizer has {', '.join(ADDED_TOKENS)}")
    image_token = find_family(config.family).image_token
    wanted = config.mllm.get("image_token_id")
    if known.get(image_token) != wanted:
        raise ValueError(
            f"the tokenizer gives {image_token} the id {known.get(image_token)}, config.json says {wanted}; "
            "take both from the same model"
        )
    size, rows = max(known.values()) + 1, config.mllm["text_config"]["vocab_size"]
    if size > rows or (exact and size != rows):
        raise ValueError(
            f"the tokenizer has {size} tokens, config.json has a vocabulary of {rows}; take both from the same model"
        )


def config_from_official(official: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> Sa2VAConfig:
    """Translate a published config.json.

    Raises:
        ValueError: the architecture is unknown, or config and tokenizer disagree.
    """
    family = recognize_family(official)
    try:
        template = str(tokenizer.chat_template or "")
        translated = LAYOUTS[family].config_from_official(official, tokenizer.get_vocab(), template)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"config.json: not a complete {family} configuration ({error!r})") from error
    values = translated | _extra_fields(official)
    config = Sa2VAConfig(family=family, sam2=sam2_sizes.config_from_official(official), **values)
    check_tokens(config, tokenizer, exact=True)
    return config


def config_to_official(config: Sa2VAConfig) -> dict[str, Any]:
    """Return the config.json of a model in the published layout.

    Raises:
        ValueError: the published layout cannot express a part of the model.
    """
    family = LAYOUTS[config.family]
    official = family.config_to_official(config) | sam2_sizes.config_to_official(config.sam2)
    ids = {find_family(config.family).image_token: config.mllm.get("image_token_id", -1)}
    defaults = {field.name: field.default for field in fields(Sa2VAConfig)}
    restored = defaults | family.config_from_official(official, ids, "")
    own = {name: getattr(config, name) for name in EXTRA_FIELDS}
    extra = {name: value for name, value in own.items() if value != restored[name]}
    return official | ({EXTRA_KEY: extra} if extra else {})


def _extra_fields(official: dict[str, Any]) -> dict[str, Any]:
    """Return our own fields in a published config.json, those under EXTRA_KEY.

    Raises:
        ValueError: a field is unknown.
    """
    extra = official.get(EXTRA_KEY) or {}
    unknown = sorted(set(extra) - set(EXTRA_FIELDS)) if isinstance(extra, dict) else [str(extra)]
    if unknown:
        raise ValueError(f"config.json: {EXTRA_KEY} has unknown fields {unknown}; expected {sorted(EXTRA_FIELDS)}")
    return extra


def key_rules(config: Sa2VAConfig) -> tuple[Rule, ...]:
    """Return the rules between the tensor names of a published folder and ours."""
    return (
        *(rule.under(SAM2_PREFIX, "sam2.native.") for rule in sam2_rules()),
        *(Rule.rename(official, ours) for official, ours in PROJECTOR.items()),
        Rule.rename("temporal.{rest}", "mllm.temporal.{rest}"),
        *(rule.under("", "mllm.native.") for rule in LAYOUTS[config.family].key_rules(config.mllm)),
    )
