"""Define the loss weights of the embedded model, whose heads all start from random weights.

Flow: configs of the stages -> TINY_LOSSES -> mask_losses.
"""

from sa2va.model.losses import LossConfig

# IoU and presence have losses, unlike in the paper. Training the candidate with the best actual IoU lets the three
# candidates represent different hypotheses.
TINY_LOSSES = LossConfig(place=0.5, iou=1.0, presence=1.0, num_points=1024, candidate="real", skip_empty=True)
