"""Assemble an untrained Sa2VA from a multimodal language model, a SAM 2 and a random projector.

Flow: MLLM folder (native Transformers layout) -> five new tokens; SAM 2 folder or raw file; random projector
    -> Sa2VA + tokenizer, ready to be saved and trained.
Source: Sa2VA, arXiv:2501.04001, section 3.2, whose training starts from such a model.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, PreTrainedModel, PreTrainedTokenizerBase

from sa2va.checkpoints.folder import CONFIG_FILE, build_empty, read_config
from sa2va.checkpoints.key_map import convert, to_native
from sa2va.checkpoints.native import compute_buffers, load_native, one_line, refuse_problems, silent_transformers
from sa2va.checkpoints.original_sam2 import load_original_sam2
from sa2va.checkpoints.pickled import PickledFiles
from sa2va.checkpoints.published.fields import side_of
from sa2va.checkpoints.published.layout import LAYOUTS, config_from_official
from sa2va.checkpoints.sam2_keys import sam2_rules
from sa2va.checkpoints.sam2_sizes import config_from_shapes
from sa2va.checkpoints.tokenizers import load_tokenizer
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.catalog import FAMILIES
from sa2va.model.projector import SegProjector, SegProjectorConfig
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import Sam2
from sa2va.model.torch_defaults import plain_defaults
from sa2va.tokens import ADDED_TOKENS

CPU = torch.device("cpu")


@plain_defaults()
def assemble(
    mllm_folder: Path, sam_path: Path, *, dtype: torch.dtype | None = None, seed: int = 0, unsafe_pickle: bool = False
) -> tuple[Sa2VA, PreTrainedTokenizerBase]:
    """Assemble an untrained Sa2VA.

    Args:
        mllm_folder: an MLLM as Transformers itself writes it.
        sam_path: folder with a SAM 2 as Transformers writes it, or a checkpoint file of SAM 2's authors.
        dtype: None = that of the MLLM.
        seed: random seed of the projector and of the embeddings of new tokens.
        unsafe_pickle: allow a checkpoint file, which is a pickle.

    Raises:
        ValueError: a part is missing, damaged or of an unknown kind.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mllm, tokenizer, family = load_mllm(mllm_folder, dtype)
        kind = dtype or next(mllm.parameters()).dtype
        sam2, sam2_values = load_sam2(sam_path, kind, unsafe_pickle=unsafe_pickle)
        config = replace(describe_mllm(mllm, family, tokenizer), sam2=sam2_values)
        model = build_empty(config)
        projector = SegProjector(SegProjectorConfig(in_dim=model.mllm.width, out_dim=sam2.width)).to(kind)
    state = {f"mllm.native.{name}": value for name, value in mllm.state_dict().items()}
    state |= {f"sam2.{name}": value for name, value in sam2.state_dict().items()}
    state |= {f"projector.{name}": value for name, value in projector.state_dict().items()}
    model.load_state_dict(state, strict=True, assign=True)
    for native in (model.mllm.native, model.sam2.native):
        compute_buffers(native, CPU)
    return model.eval(), tokenizer


def load_mllm(folder: Path, dtype: torch.dtype | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Load an MLLM, add embedding rows for the tokens of Sa2VA, and untie its output layer.

    Raises:
        ValueError: the folder holds no MLLM of a known family, or a tensor is missing, unknown or of another shape.
    """
    values = read_config(folder)
    family = str(values.get("model_type"))
    if family not in FAMILIES:
        hint = "; take the folder whose name ends in -hf" if family == "internvl_chat" else ""
        raise ValueError(f"{folder / CONFIG_FILE}: {family!r} is not one of {', '.join(FAMILIES)}{hint}")
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens([t for t in ADDED_TOKENS if t not in tokenizer.get_vocab()], special_tokens=True)
    try:
        config = CONFIG_MAPPING[family].from_dict(values)
        mllm, report = load_native(AutoModelForImageTextToText, folder, config, dtype or "auto")
        with silent_transformers():
            mllm.resize_token_embeddings(max(tokenizer.get_vocab().values()) + 1, mean_resizing=False)
    except Exception as error:  # a wrong value can raise anything in the library
        raise ValueError(f"{folder} holds no MLLM that can be read ({one_line(error)})") from error
    refuse_problems(report, folder, "wrong or mixed files")
    mllm.lm_head.weight = nn.Parameter(mllm.lm_head.weight.detach().clone())
    for part in (mllm.config, mllm.config.get_text_config()):
        part.tie_word_embeddings = False
    return mllm, tokenizer, family


def describe_mllm(mllm: PreTrainedModel, family: str, tokenizer: PreTrainedTokenizerBase) -> Sa2VAConfig:
    """Return the config of a Sa2VA around an MLLM, with the large SAM 2.0.

    It equals the config of the published layout, so that an assembled model preprocesses its input as a published one
    does.
    """
    values = mllm.config.to_dict()
    vision = values["vision_config"]
    tile_size = side_of(vision.get("image_size") or Sa2VAConfig.tile_size)
    plain = Sa2VAConfig(family=family, mllm=values, tile_size=tile_size)
    return config_from_official(LAYOUTS[family].config_to_official(plain), tokenizer)


def load_sam2(path: Path, dtype: torch.dtype, *, unsafe_pickle: bool) -> tuple[Sam2, dict[str, Any]]:
    """Load SAM 2 or 2.1 and its configuration; the modules that 2.1 adds are kept.

    Raises:
        ValueError: there is no SAM 2, or it is a pickle and `unsafe_pickle` is False.
    """
    if path.is_dir():
        sam2 = load_original_sam2(path, CPU, dtype)
        return sam2, sam2.native.config.to_dict()
    if not path.is_file():
        raise ValueError(f"{path}: there is neither a folder nor a file; expected a SAM 2")
    if not unsafe_pickle:
        raise ValueError(
            f"{path} is a pickle, which can run code when it is opened; if you trust it, add --unsafe-pickle-ok, "
            "or take a folder such as facebook/sam2.1-hiera-large"
        )
    files = PickledFiles([path])
    values = config_from_shapes({name: outline.shape for name, outline in files.outlines.items()})
    state = dict(convert(to_native(sam2_rules(raw=True), list(files.outlines)), files.read))
    with torch.device("meta"):
        sam2 = Sam2(values)
    try:
        sam2.native.load_state_dict({k: v.to(dtype, copy=True) for k, v in state.items()}, strict=True, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    compute_buffers(sam2.native, CPU)
    return sam2.eval(), values
