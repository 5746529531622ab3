"""Turn the hidden state of each [SEG] token into a SAM 2 prompt embedding.

Flow: mllm.py (hidden states at [SEG]) -> SegProjector -> sam2.py (sparse prompt).
Source: LISA, arXiv:2308.00692 (the [SEG] idea); Sa2VA, arXiv:2501.04001 (SAM 2 instead of SAM).
Shapes: N [SEG] tokens, D MLLM width, C SAM 2 prompt width.
"""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class SegProjectorConfig:
    in_dim: int  # D, width of the MLLM's last layer
    out_dim: int = 256  # C, fixed by the SAM 2 checkpoint


class SegProjector(nn.Module):
    """Two-layer MLP from hidden states of the MLLM to SAM 2 prompt embeddings."""

    def __init__(self, config: SegProjectorConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.in_dim, config.in_dim)
        self.fc2 = nn.Linear(config.in_dim, config.out_dim)

    def forward(self, seg_states: Tensor) -> Tensor:
        return self.fc2(self.fc1(seg_states).relu())  # (N, D) -> (N, C)
