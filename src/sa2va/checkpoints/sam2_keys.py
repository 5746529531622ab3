"""Map the tensor names of SAM 2 between the release of its authors and Transformers.

Flow: names in a raw checkpoint or below "grounding_encoder.sam2_model." of a published Sa2VA <-> Sam2VideoModel.
Source: SAM 2, arXiv:2408.00714; the last two names of RENAMED are those of 2.1.
"""

from sa2va.checkpoints.key_map import Rule

NUM_POINT_LABELS = 4
HEAD_LAYERS = {"layers.0": "proj_in", "layers.1": "layers.0", "layers.2": "proj_out"}
DOWNSAMPLER_STEPS = 4  # each is convolution, norm, activation; a last convolution follows


def _head(official: str, native: str) -> dict[str, str]:
    """Map the layers of a three-layer MLP: official layers.0, 1, 2 to native proj_in, layers.0, proj_out."""
    return {f"{official}.{there}": f"{native}.{here}" for there, here in HEAD_LAYERS.items()}


# Official prefix, native prefix, and the names below them. In both directions the first match applies; {rest} is the
# remainder of a name.
RENAMED: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("image_encoder.trunk", "vision_encoder.backbone", {
        "patch_embed.proj": "patch_embed.projection",
        "blocks.{i}.norm{n}": "blocks.{i}.layer_norm{n}",
        "blocks.{i}.mlp.layers.0": "blocks.{i}.mlp.proj_in",
        "blocks.{i}.mlp.layers.1": "blocks.{i}.mlp.proj_out",
        "": "",
    }),
    ("image_encoder.neck", "vision_encoder.neck", {"convs.{i}.conv": "convs.{i}"}),
    ("memory_attention", "memory_attention", {
        "layers.{i}.norm{n}": "layers.{i}.layer_norm{n}",
        "layers.{i}.self_attn.out_proj": "layers.{i}.self_attn.o_proj",
        "layers.{i}.cross_attn_image.out_proj": "layers.{i}.cross_attn_image.o_proj",
        "norm": "layer_norm",
        "": "",
    }),
    ("memory_encoder", "memory_encoder", {
        "pix_feat_proj": "feature_projection",
        "out_proj": "projection",
        "fuser.layers.{i}.dwconv": "memory_fuser.layers.{i}.depthwise_conv",
        "fuser.layers.{i}.norm": "memory_fuser.layers.{i}.layer_norm",
        "fuser.layers.{i}.pwconv{n}": "memory_fuser.layers.{i}.pointwise_conv{n}",
    }),
    ("memory_encoder.mask_downsampler", "memory_encoder.mask_downsampler", {
        **{f"encoder.{3 * step}": f"layers.{step}.conv" for step in range(DOWNSAMPLER_STEPS)},
        **{f"encoder.{3 * step + 1}": f"layers.{step}.layer_norm" for step in range(DOWNSAMPLER_STEPS)},
        f"encoder.{3 * DOWNSAMPLER_STEPS}": "final_conv",
    }),
    ("sam_prompt_encoder.mask_downscaling", "prompt_encoder.mask_embed", {
        "0": "conv1", "1": "layer_norm1", "3": "conv2", "4": "layer_norm2", "6": "conv3",
    }),
    ("sam_prompt_encoder", "prompt_encoder", {
        "no_mask_embed": "no_mask_embed",
        "not_a_point_embed": "not_a_point_embed",
    }),
    ("sam_mask_decoder.transformer", "mask_decoder.transformer", {
        "layers.{i}.self_attn.out_proj": "layers.{i}.self_attn.o_proj",
        "layers.{i}.cross_attn_token_to_image.out_proj": "layers.{i}.cross_attn_token_to_image.o_proj",
        "layers.{i}.cross_attn_image_to_token.out_proj": "layers.{i}.cross_attn_image_to_token.o_proj",
        "layers.{i}.norm{n}": "layers.{i}.layer_norm{n}",
        "layers.{i}.mlp.layers.0": "layers.{i}.mlp.proj_in",
        "layers.{i}.mlp.layers.1": "layers.{i}.mlp.proj_out",
        "final_attn_token_to_image.out_proj": "final_attn_token_to_image.o_proj",
        "norm_final_attn": "layer_norm_final_attn",
    }),
    ("sam_mask_decoder", "mask_decoder", {
        "output_upscaling.0": "upscale_conv1",
        "output_upscaling.1": "upscale_layer_norm",
        "output_upscaling.3": "upscale_conv2",
        **_head("output_hypernetworks_mlps.{n}", "output_hypernetworks_mlps.{n}"),
        **_head("iou_prediction_head", "iou_prediction_head"),
        **_head("pred_obj_score_head", "pred_obj_score_head"),
        "": "",
    }),
    ("", "", {
        **_head("obj_ptr_proj", "object_pointer_proj"),
        "mask_downsample": "mask_downsample",
        "obj_ptr_tpos_proj": "temporal_positional_encoding_projection_layer",
    }),
)  # fmt: skip
PARAMETERS = {
    "maskmem_tpos_enc": "memory_temporal_positional_encoding",
    "no_mem_embed": "no_memory_embedding",
    "no_mem_pos_enc": "no_memory_positional_encoding",
    "no_obj_ptr": "no_object_pointer",
    "no_obj_embed_spatial": "occlusion_spatial_embedding_parameter",
}


def sam2_rules(*, raw: bool = False) -> tuple[Rule, ...]:
    """Return the rules between official SAM 2 names (without prefix) and those of Sam2VideoModel.

    Args:
        raw: whether the names are of a checkpoint by SAM 2's authors, where the fuser's scale is "gamma". Sa2VA
            calls it "g_weight", because older Transformers renamed any "gamma" to a norm weight.
    """
    scale = "gamma" if raw else "g_weight"
    prompt = "prompt_encoder.shared_embedding.positional_embedding"
    return (
        Rule.copy(
            "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
            (prompt, "shared_image_embedding.positional_embedding"),
        ),
        Rule.join(
            [f"sam_prompt_encoder.point_embeddings.{i}.weight" for i in range(NUM_POINT_LABELS)],
            "prompt_encoder.point_embed.weight",
        ),
        Rule.rename(f"memory_encoder.fuser.layers.{{i}}.{scale}", "memory_encoder.memory_fuser.layers.{i}.scale"),
        *(
            Rule.rename(_dotted(official, there), _dotted(native, here))
            for official, native, names in RENAMED
            for there, here in names.items()
        ),
        *(Rule.rename(official, native) for official, native in PARAMETERS.items()),
    )


def _dotted(start: str, name: str) -> str:
    return ".".join(part for part in (start, name, "{rest}") if part)
