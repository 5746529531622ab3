"""Translate rotary-position settings between published and native configurations.

Flow: official config.json <-> rope_parameters of a native text configuration.
"""

from typing import Any

_NATIVE_KINDS = {"su": "longrope", "mrope": "default"}


def rope_to_native(text: dict[str, Any]) -> dict[str, Any]:
    """Return `rope_parameters` from an official text configuration, which has `rope_theta` and `rope_scaling`."""
    if text.get("rope_parameters"):
        return dict(text["rope_parameters"])
    scaling = dict(text.get("rope_scaling") or {})
    kinds = [kind for kind in (scaling.pop("rope_type", None), scaling.pop("type", None)) if kind]
    kind = kinds[0] if kinds else "default"
    return {"rope_type": _NATIVE_KINDS.get(kind, kind), "rope_theta": text.get("rope_theta", 10000.0), **scaling}


def rope_to_official(rope: dict[str, Any], kind_key: str) -> dict[str, Any]:
    """Return `rope_theta` and `rope_scaling` from native `rope_parameters`.

    Args:
        rope: native `rope_parameters`.
        kind_key: name of the field with the scaling type: "rope_type", or "type" in older code.
    """
    scaling = dict(rope)
    theta, kind = scaling.pop("rope_theta"), scaling.pop("rope_type", "default")
    if kind == "longrope" and kind_key == "type":
        kind = "su"
    plain = kind == "default" and not scaling
    return {"rope_theta": theta, "rope_scaling": None if plain else {kind_key: kind, **scaling}}
