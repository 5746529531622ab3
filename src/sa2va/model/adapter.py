"""Merge a LoRA adapter, as PEFT saves it, into the MLLM.

Flow: adapter_config.json + adapter_model.safetensors -> merge_adapter -> the same model with other weights.
Source: LoRA, arXiv:2106.09685, as the peft library has it.
"""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from sa2va.model.sa2va import Sa2VA

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"


def merge_adapter(model: Sa2VA, folder: Path) -> None:
    """Add the adapter's weights to those of the MLLM, for good.

    Args:
        model: not packed into fewer bits yet.
        folder: of an adapter that was trained on the native MLLM (`model.mllm.native`).

    Raises:
        ValueError: peft is not installed, a file is missing or damaged, or the adapter is for another model.
    """
    try:
        from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
    except ImportError as error:
        raise ValueError("an adapter needs an extra; run: pip install 'sa2va[adapter]'") from error
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not a LoRA adapter: it has no {name}")
    try:
        config = PeftConfig.from_pretrained(str(folder))
        tensors = load_file(folder / WEIGHTS_FILE)
    except (ValueError, TypeError, KeyError, SafetensorError) as error:
        raise ValueError(f"{folder} is damaged ({one_line(error)}); fetch it again") from error
    if not isinstance(config, LoraConfig):
        raise ValueError(f"{folder} is a {config.peft_type} adapter; only LoRA adapters can be merged")
    config.inference_mode = True
    try:
        wrapped = PeftModel(model.mllm.native, config)
        wanted = set(get_peft_model_state_dict(wrapped))
        set_peft_model_state_dict(wrapped, tensors)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{folder} does not fit this model ({one_line(error)})") from error
    for name in sorted(wanted ^ set(tensors)):
        found = "lacks" if name in wanted else "has an unknown"
        raise ValueError(f"{folder} does not fit this model: it {found} tensor {name}")
    try:
        model.mllm.native = wrapped.merge_and_unload(safe_merge=True)
    except ValueError as error:  # the only check that it makes
        raise ValueError(f"{folder} holds values that are not finite; it is damaged") from error


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
