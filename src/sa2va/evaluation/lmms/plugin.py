"""Register the model with lmms-eval: `lmms-eval --model sa2va --model_args pretrained=NAME --tasks mme`.

Flow: entry point lmms_eval.models in pyproject.toml -> manifest -> model.py. Nothing here needs lmms-eval before it
    calls.
"""

from typing import Any


def manifest() -> Any:
    """Return the manifest of the chat model."""
    from lmms_eval.models.registry_v2 import ModelManifest  # ty: ignore

    return ModelManifest(model_id="sa2va", chat_class_path="sa2va.evaluation.lmms.model.Sa2VAChat")
