"""Merge a LoRA adapter, as PEFT saves it, into the whole model or into its MLLM.

Flow: adapter_config.json + adapter_model.safetensors -> merge_adapter -> the model with merged weights.
    An adapter of `sa2va finetune` covers the whole model; one that PEFT trained on the native MLLM covers that.
Source: LoRA, arXiv:2106.09685, as implemented in the peft library.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from torch import Tensor

from sa2va.checkpoints.native import one_line
from sa2va.checkpoints.patterns import check_pattern
from sa2va.files.json_file import read_json
from sa2va.model.config_limits import MAX_ITEMS, SHARE, Limit, check_number
from sa2va.model.sa2va import Sa2VA

if TYPE_CHECKING:
    from peft import LoraConfig

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # of PEFT's tensor names
WHOLE = ("mllm.", "sam2.", "projector.")  # parts of Sa2VA, which no native MLLM has
RANK, SCALE, USUAL_RANK = Limit(1, 4096), Limit(0, 1e6, whole=False), 64
# Fields that select modules. A string value is a regular expression, except peft's keyword "all-linear".
MODULES, EVERY_LINEAR = ("target_modules", "exclude_modules", "layers_pattern", "modules_to_save"), "all-linear"
FLAGS = ("fan_in_fan_out", "use_rslora", "use_dora", "lora_bias", "inference_mode")
# Refused: they change the base model's layers, import other packages or read other files.
REFUSED = (
    "layer_replication", "megatron_config", "runtime_config", "target_parameters", "use_qalora",
    "alora_invocation_tokens", "eva_config", "corda_config", "lora_ga_config", "velora_config", "monteclora_config",
    "use_bdlora", "arrow_config", "kasa_config",
)  # fmt: skip


def merge_adapter(model: Sa2VA, folder: Path) -> None:
    """Merge the weights of a LoRA adapter.

    Args:
        model: not quantized yet.
        folder: of an adapter that was trained on the whole model, or on the native MLLM (`model.mllm.native`).

    Raises:
        ValueError: peft is not installed, a file is missing or damaged, or the adapter is for another model.
    """
    config, tensors = read_adapter(folder)
    from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    is_whole = any(name.removeprefix(PREFIX).startswith(WHOLE) for name in tensors)
    config.inference_mode, config.base_model_name_or_path = True, None  # peft would look the base up on a hub
    try:
        wrapped = PeftModel(model if is_whole else model.mllm.native, config)
        wanted = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
        set_peft_model_state_dict(wrapped, dict(tensors))
    except Exception as error:  # a wrong value can raise anything in peft
        raise ValueError(f"{folder} does not fit this model ({one_line(error)})") from error
    for name in sorted(wanted ^ set(tensors)):
        found = "lacks" if name in wanted else "has an unknown"
        raise ValueError(f"{folder} does not fit this model: it {found} tensor {name}")
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise ValueError(f"{folder} holds values that are not finite, in {bad[0]}; it is damaged")
    merged = wrapped.merge_and_unload(safe_merge=True)
    vars(merged).pop("peft_config", None)
    if not is_whole:
        model.mllm.native = merged


def read_adapter(folder: Path) -> "tuple[LoraConfig, dict[str, Tensor]]":
    """Read and check the files of a LoRA adapter.

    Raises:
        ValueError: peft is not installed, or a file is missing, damaged or not supported.
    """
    try:
        from peft import LoraConfig, PeftConfig
    except ImportError as error:
        raise ValueError("an adapter needs an extra; run: pip install 'sa2va[adapter]'") from error
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not a LoRA adapter: it has no {name}")
    described = read_json(folder / CONFIG_FILE, 2**20)
    try:
        config = PeftConfig.from_pretrained(str(folder))
        tensors = load_file(folder / WEIGHTS_FILE)
    except Exception as error:  # as in merge_adapter
        raise ValueError(f"{folder} is damaged ({one_line(error)}); fetch it again") from error
    if not isinstance(config, LoraConfig):
        raise ValueError(f"{folder} is a {config.peft_type} adapter; only LoRA adapters can be merged")
    check_settings(described, tensors, f"{folder / CONFIG_FILE}: ")
    return config, tensors


def check_settings(values: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str) -> None:
    """Check the values of adapter_config.json before any layer is built.

    Args:
        values: of adapter_config.json.
        tensors: of the adapter; no configured rank may exceed their largest rank or, if larger, USUAL_RANK.
        where: prefix of error messages.

    Raises:
        ValueError: a value has the wrong type, is out of range or is not supported.
    """
    for name in REFUSED:
        if values.get(name):
            raise ValueError(f"{where}{name} is not supported; expected a plain LoRA adapter")
    for name in FLAGS:
        if not isinstance(values.get(name, False), bool | None):
            raise ValueError(f"{where}{name} is {values[name]!r:.60}; expected true or false")
    ranks, alphas = (values.get(f"{name}_pattern") or {} for name in ("rank", "alpha"))
    for name, patterns in (("rank_pattern", ranks), ("alpha_pattern", alphas)):
        if not isinstance(patterns, Mapping) or len(patterns) > MAX_ITEMS:
            raise ValueError(f"{where}{name} is {patterns!r:.60}; expected an object of at most {MAX_ITEMS} fields")
        for pattern in patterns:
            check_pattern(pattern, f"{where}{name}")
    most = max((len(tensor) for name, tensor in tensors.items() if ".lora_A." in name), default=USUAL_RANK)
    rank = Limit(1, min(RANK.high, max(most, USUAL_RANK)))
    for value in (values.get("r", 8), *ranks.values()):
        check_number(value, rank, f"{where}r")
    for value in (values.get("lora_alpha", 8), *alphas.values()):
        check_number(value, SCALE, f"{where}lora_alpha")
    check_number(values.get("lora_dropout", 0.0), SHARE, f"{where}lora_dropout")
    for name in MODULES:
        given = values.get(name)
        if isinstance(given, str) and given != EVERY_LINEAR:
            check_pattern(given, f"{where}{name}")
        elif isinstance(given, list) and (len(given) > MAX_ITEMS or not all(isinstance(each, str) for each in given)):
            raise ValueError(f"{where}{name} is {given!r:.60}; expected at most {MAX_ITEMS} names")
        elif not isinstance(given, str | list | None):
            raise ValueError(f"{where}{name} is {given!r:.60}; expected names or a pattern")
        for pattern in given if name == "layers_pattern" and isinstance(given, list) else ():
            check_pattern(pattern, f"{where}{name}")
