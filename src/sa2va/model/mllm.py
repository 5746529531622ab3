"""Run the multimodal language model: embeddings in, hidden states and next-token logits out.

Flow: processor.py (Prompts) -> embed_inputs -> run_text (training), or inference/decoding.py with a KV cache
    -> states at [SEG] -> projector.py.
Source: Sa2VA, arXiv:2501.04001: the state is read where [SEG] is the *input*.
Shapes: B samples, L tokens, n image places, D width, V vocabulary.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache

from sa2va.model.batch import Prompts
from sa2va.model.branches import branch_mask, branch_positions
from sa2va.model.families.catalog import find_family
from sa2va.model.families.protocol import TextInput, VisualTokens


class Mllm(nn.Module):
    """A native Transformers MLLM behind the few calls that Sa2VA needs."""

    def __init__(self, family: str, config: dict[str, Any]) -> None:
        super().__init__()
        self._family = find_family(family)
        # A class of the family's own. The copy is for a native config, which writes into its parts.
        self.native: Any = self._family.build_mllm(deepcopy(config))

    @property
    def width(self) -> int:
        """D, width of the hidden states."""
        return self.native.get_input_embeddings().embedding_dim

    @property
    def max_places(self) -> int | None:
        """How many places the language model has learned; a picture may take fewer than it has tokens."""
        return getattr(self.native.config.get_text_config(), "max_position_embeddings", None)

    def check_length(self, number: int, room: int) -> None:
        """Refuse a prompt that leaves too little room for its answer.

        Args:
            number: places of the prompt, and of what was said before it.
            room: places that the answer needs.

        Raises:
            ValueError: together they are more than the language model has learned.
        """
        most = self.max_places
        if most is None or number + room <= most:
            return
        fewer = "" if number >= most else f", set max_new_tokens to at most {most - number}"
        raise ValueError(
            f"text and pictures take {number} places and the answer needs {room}, and this language model reads at "
            f"most {most}; ask in fewer words, show fewer pictures{fewer} or begin a new conversation"
        )

    @property
    def text_model(self) -> Any:
        """The native text model, without its head."""
        return self._family.language_model(self.native)

    @property
    def vision_tower(self) -> nn.Module:
        """The image encoder."""
        return self._family.vision_tower(self.native)

    @property
    def vision_projector(self) -> nn.Module:
        """What turns the image encoder's states into visual tokens."""
        return self._family.vision_projector(self.native)

    @property
    def word_embeddings(self) -> Tensor:
        """(V, D) input embeddings."""
        return self.native.get_input_embeddings().weight

    @property
    def image_token_id(self) -> int:
        """Token at each image place."""
        return self.native.config.image_token_id

    def embed_tokens(self, input_ids: Tensor) -> Tensor:
        # Parts of the native model may be spread over several devices; what comes out belongs where the input was.
        return self.native.get_input_embeddings()(input_ids).to(input_ids.device)  # (B, L) -> (B, L, D)

    def embed_inputs(self, prompts: Prompts) -> TextInput:
        """Embed the text and put a visual token at every image place, in order.

        Raises:
            ValueError: the number of image places differs from the number of visual tokens, which means that
                text and pictures belong to different prompts.
        """
        family, native, index = self._family, self.native, prompts.visual_index
        inputs = TextInput(
            embeds=self.embed_tokens(prompts.input_ids),
            attention_mask=prompts.attention_mask,
            position_ids=family.positions(native, prompts.input_ids, prompts.attention_mask, prompts.grids),
        )
        places = prompts.input_ids == self.image_token_id
        if int(places.sum()) != len(index):
            raise ValueError(f"{int(places.sum())} image places in the text, {len(index)} visual tokens")
        if prompts.branches is not None:
            inputs = replace(
                inputs,
                attention_mask=branch_mask(prompts.branches, inputs.embeds.dtype),
                position_ids=branch_positions(prompts.branches, inputs.position_ids),
            )
        if len(index) == 0:
            return inputs
        visual = self.encode_images(prompts.pixel_values.to(inputs.embeds.dtype), prompts.grids)
        seen = visual.tokens[index].to(inputs.embeds)  # (n, D)
        return replace(
            inputs,
            embeds=inputs.embeds.masked_scatter(places[..., None], seen),
            visual_places=places,
            deepstack=tuple(level[index] for level in visual.deepstack),
        )

    def encode_images(self, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
        """Run the image encoder and the projector of its tokens; see `Prompts` for the shapes."""
        return self._family.encode_images(self.native, pixel_values, grids)

    def run_text(self, inputs: TextInput, cache: DynamicCache | None = None) -> Tensor:
        """Return the states (B, L, D) of the new tokens, as the family reads [SEG] from them."""
        return self._family.run_text(self.native, inputs, cache).states.to(inputs.embeds.device)

    def record_attention(self) -> None:
        """Let the text model compute its attention in the way that returns it, from now on."""
        self.text_model.set_attn_implementation("eager")

    def run_text_recorded(self, inputs: TextInput, layers: Sequence[int]) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the states (B, L, D) and the attention (B, H, L, L) of some layers; see `record_attention`."""
        if not layers:
            return self.run_text(inputs), {}
        output = self._family.run_text(self.native, replace(inputs, records_attention=True), None)
        assert output.attentions, "call record_attention first; other implementations return no attention"
        return output.states.to(inputs.embeds.device), {layer: output.attentions[layer] for layer in layers}

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Return the scores of the next token, from states as `run_text` gives them: (..., D) -> (..., V)."""
        return self._family.logits(self.native, hidden_states).to(hidden_states.device)
