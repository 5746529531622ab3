"""Load a model by its name, for inference.

Flow: name -> find.py, device.py -> folder.py -> adapter.py, quantize.py, device_map.py -> Predictor.
"""

from pathlib import Path

import torch

from sa2va.checkpoints.adapter import merge_adapter
from sa2va.checkpoints.device import check_dtype, choose_device, choose_dtype, list_places
from sa2va.checkpoints.device_map import Plan, budgets, plan_layers, spread
from sa2va.checkpoints.find import EMBEDDED, find_model
from sa2va.checkpoints.folder import Checkpoint, build_empty, load_weights, open_checkpoint
from sa2va.checkpoints.footprint import CHOICES, measure, memory_need
from sa2va.checkpoints.original_sam2 import load_original_sam2
from sa2va.checkpoints.quantize import import_quantizer, quantize_mllm
from sa2va.inference.compiling import CompileMode, check_mode
from sa2va.inference.predictor import Predictor
from sa2va.model.config import Sa2VAConfig
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA

CPU = torch.device("cpu")


def load(
    name: str | Path = "tiny",
    *,
    adapter: str | Path | None = None,
    sam: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str | None = None,
    revision: str | None = None,
    offline: bool = False,
    allow_paths: bool = True,
    compile: CompileMode = "auto",
) -> Predictor:
    """Load a model as a Predictor.

    Args:
        name: "tiny" (the embedded model), a model folder in our layout or the published one, or "org/name" on a hub.
        adapter: LoRA adapter for the MLLM, as PEFT saves it: a folder or "org/name".
        sam: original SAM 2 for the video mode "consistent", such as "facebook/sam2-hiera-large".
        device: "auto", "cpu", "cuda", "cuda:1", "mps". "auto" takes the fastest one; a model too large for one GPU
            is dispatched over all GPUs and RAM.
        dtype: "auto", "float32", "bfloat16", "float16". "auto" takes 16 bits on a GPU, and bfloat16 on a CPU that
            multiplies it natively, for models of 100 million parameters or more.
        quantize: None, "int8" or "int4" for the MLLM's linear layers.
        revision: branch, tag or commit of `name` on the hub.
        offline: no downloads.
        allow_paths: False refuses paths and URLs as media, for untrusted requests.
        compile: use torch.compile for the image encoder, the tracking step and the token step: True, False or "auto"
            (on a GPU, for long clips and much use).

    Raises:
        ValueError: there is no such model, its files are damaged, an extra is not installed, memory is too
            small, or an argument is unknown.
    """
    mode, where = check_mode(compile), choose_device(device)
    check_dtype(dtype)
    if quantize is not None:
        import_quantizer(quantize, where)  # fails before anything is downloaded
    folder = find_model(name, revision=revision, offline=offline)
    extra = None if adapter is None else find_model(adapter, offline=offline)
    original = None if sam is None else find_model(sam, offline=offline)
    checkpoint = open_checkpoint(folder)
    kind = choose_dtype(dtype, where, checkpoint.num_parameters)
    try:
        plan = None
        if device == "auto" and where.type == "cuda":
            where, plan = _choose_gpus(checkpoint.config, kind, may_spread=quantize is None)
        model, processor = _build(checkpoint, extra, quantize, where, kind, plan)
        sam2 = None if original is None else load_original_sam2(original, where, kind)
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{name} does not fit the memory of {where}; `sa2va doctor {name}` lists what does") from error
    # An adapter may have been trained on other media than synthetic scenes.
    is_embedded = extra is None and folder.resolve() in {place.resolve() for place in EMBEDDED.values()}
    return Predictor(
        model, processor, original_sam2=sam2, is_embedded=is_embedded, allow_paths=allow_paths, compile=mode
    )


def _choose_gpus(config: Sa2VAConfig, dtype: torch.dtype, *, may_spread: bool) -> tuple[torch.device, Plan | None]:
    """Return the GPU with the most free memory and, if the model does not fit it, a device map."""
    places = sorted(list_places(), key=lambda place: (place.device == "cpu", -place.free))
    first = torch.device(places[0].device)
    choice = CHOICES["float32" if dtype == torch.float32 else "bfloat16"]
    need = memory_need(measure(config, first), choice)
    if places[0].usable >= need.total or not may_spread:
        return first, None
    return first, plan_layers(build_empty(config).mllm.native, dtype, budgets(need, places))


def _build(
    checkpoint: Checkpoint,
    adapter: Path | None,
    quantize: str | None,
    where: torch.device,
    dtype: torch.dtype,
    plan: Plan | None,
) -> tuple[Sa2VA, Processor]:
    """Load the weights on their final device, or on the CPU if they are then quantized or dispatched."""
    model, processor = load_weights(checkpoint, CPU if plan or quantize else where, dtype)
    if adapter is not None:
        merge_adapter(model, adapter)
    if quantize is not None:
        quantize_mllm(model, quantize, where)
    if plan is not None:
        spread(model, plan, where)
    return model, processor
