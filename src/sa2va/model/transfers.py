"""Copy tensors between host and device without making the host wait.

Flow: pixels, indices -> to_device -> model -> HostCopy -> results.
"""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device. A GPU copies it after the work before it, while the host goes on."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class HostCopy:
    """Copy of a tensor to the host that starts at once and waits only when it is read."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._arrived = tensor, None
        if tensor.device.type == "cuda":
            self._tensor = torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.current_stream(tensor.device).record_event()

    def read(self) -> Tensor:
        """Wait for the copy and return it."""
        if self._arrived is None:
            return self._tensor.cpu()
        self._arrived.synchronize()
        return self._tensor.clone()  # pinned memory is scarce, and the caller may keep the copy
