"""The section `train` of the plan: patches, schedule, rates, loss, and how patches are varied."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from unetpp.settings import Axes, Frozen, Positive, PositiveFloat, require

Fraction = Annotated[float, Field(ge=0, le=1)]


class AugmentPlan(Frozen):
    """Random variation of training patches. A probability of 0 turns a variation off. Strengths are drawn uniformly."""

    mirror: bool = True
    """Flip each axis with probability 1/2."""
    quarter_turns: bool = True
    """Rotate by multiples of 90 degrees in planes whose two axes have the same patch size and spacing."""
    affine_probability: Fraction = 0.2
    """Probability of a rotation and scaling."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Largest rotation in degrees, either way, in planes whose two axes have about the same spacing."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Largest change of size: objects are scaled by a factor of 1 - scale to 1 + scale along each axis, but not across
    thick slices (more than 3 times as thick as a pixel)."""
    elastic_probability: Fraction = 0.0
    """Probability of an elastic deformation, not across thick slices."""
    elastic_shift: Annotated[float, Field(ge=0)] = 4.0
    """Largest shift by an elastic deformation, in voxels; places 4 times as far apart are shifted independently."""
    noise_probability: Fraction = 0.1
    """Probability of additive Gaussian noise."""
    noise_std: Annotated[float, Field(ge=0)] = 0.1
    """Largest standard deviation of the noise, in units of the normalized image."""
    blur_probability: Fraction = 0.1
    """Probability of a Gaussian blur."""
    blur_sigma: Annotated[float, Field(gt=0)] = 1.0
    """Largest standard deviation of the blur, in voxels."""
    contrast_probability: Fraction = 0.15
    """Probability of a change of contrast."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Largest change of contrast: a factor of 1 - contrast to 1 + contrast."""
    brightness_probability: Fraction = 0.15
    """Probability of a change of brightness."""
    brightness: Annotated[float, Field(ge=0)] = 0.25
    """Largest value added, either way, in units of the normalized image."""
    low_resolution_probability: Fraction = 0.1
    """Probability of a lower resolution: fewer voxels are sampled, and interpolated; not across thick slices."""
    low_resolution: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Lowest resolution, as a fraction of the image's."""
    gamma_probability: Fraction = 0.15
    """Probability of a gamma correction."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Largest change of gamma: an exponent of 1 - gamma to 1 + gamma."""
    inverted_gamma_probability: Fraction = 0.1
    """Probability of a gamma correction of the inverted image: of bright values, as the other is of dark ones."""
    invert_probability: Fraction = 0.0
    """Probability of inverting intensities, for stains and microscopes of both kinds."""
    first_stage_outlines: Fraction = 0.4
    """Of a cascade: probability that the outlines of the first stage are moved by one or two voxels."""
    first_stage_misses: Fraction = 0.2
    """Of a cascade: probability that a class is removed from what the first stage found in a patch."""


class TrainPlan(Frozen):
    """Training of the weights."""

    patch: Axes
    """Size of a training patch along each axis, in voxels of the network's grid."""
    batch: Positive
    """Number of patches in a training step, those of all GPUs and machines together."""
    accumulate: Positive = 1
    """Number of parts in which a step goes through its patches, for a batch that does not fit into memory: the same
    loss and gradients (batch normalization alone sees the parts), in a third more time, as of each part the sums of the
    Dice loss are computed first."""
    steps_per_epoch: Positive
    """Number of training steps in an epoch."""
    epochs: Positive
    """Length of the schedule in epochs, unless `minutes` is given."""
    minutes: PositiveFloat | None = None
    """Length of the schedule in minutes of wall time, instead of `epochs`."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """adamw: AdamW for all weights (Loshchilov and Hutter 2019); muon: Muon for the kernels of nodes (Jordan et al.
    2024), AdamW for all other weights."""
    learning_rate: PositiveFloat = 3e-3
    """Peak learning rate of AdamW."""
    kernel_learning_rate: PositiveFloat = 0.02
    """Peak relative step size of Muon: norm of the update over norm of the kernel."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Decoupled weight decay of AdamW."""
    warmup: Fraction = 0.05
    """Fraction of the schedule in which learning rates rise from 0; they then fall to 0 along half a cosine."""
    growth: tuple[float, ...] = ()
    """Fraction of the schedule at which each further one of `model.shells` joins the training, such as (0.5,) for two;
    before that, the inner ones are trained alone, in less time for each step; (): all are trained from the start,
    as is best where an inner size has been trained before (`train --from`)."""
    growth_warmup: Fraction = 0.0
    """Fraction of the schedule in which learning rates rise again from 0 to their curve after each change of `growth`;
    0: they go on."""
    gradient_clip: PositiveFloat = 1.0
    """Largest norm of the gradient over all weights."""
    encoder_learning_rate: PositiveFloat = 1.0
    """Learning rate of a timm encoder, as a multiple of `learning_rate`."""
    freeze_encoder: Fraction = 0.0
    """Fraction of the schedule, from its start, in which a timm encoder is frozen (weights and batch statistics)."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the exponential moving average of the weights, which is what is validated and saved."""
    head_weights: Literal["equal"] | tuple[PositiveFloat, ...] = "equal"
    """Weight of each head's loss, shallowest first (deep supervision; Zhou et al. 2018, section 3.2); with
    `model.shells` of each size, those of the inner shell first."""
    distillation: bool = False
    """The heads of all sizes but the largest learn the probabilities of the largest instead of the labels (in-place
    distillation; Yu and Huang 2019, section 3.2)."""
    cross_entropy_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the cross-entropy in the loss of a head."""
    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the soft Dice loss in the loss of a head."""
    class_weights: tuple[PositiveFloat, ...] | None = None
    """Weight of the voxels of each class in the cross-entropy, background first, or of each of `data.regions`; null:
    all the same. The Dice loss gives every class the same weight."""
    case_weights: dict[str, PositiveFloat] = Field(default_factory=dict)
    """How often patches of a case are drawn, by its id, relative to the cases that are not named."""
    foreground_fraction: Fraction = 0.5
    """Fraction of the patches that are centred on a foreground voxel."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward and backward pass; weights are always float32."""
    checkpointing: bool | Literal["cheap"] = False
    """Activation checkpointing: less memory, more time. "cheap": recompute normalizations, activations and up-sampling
    in the backward pass (same weights up to rounding); true: recompute whole nodes (same weights, bit for bit)."""
    compile: bool = False
    """Compile the network with torch.compile at the first step, which takes a minute or more; if that fails, training
    continues uncompiled, and its log records it."""
    augment: AugmentPlan = AugmentPlan()
    """Variation of the patches."""
    validations: Positive = 10
    """Number of validations during training."""
    validation_cases: Positive = 24
    """Largest number of cases in a validation during training; all are scored after it."""
    patience: Positive = 5
    """Stop early after this many validations without a better score; only without `minutes`, which are used up, and
    after the last change of `growth`."""
    checkpoint_minutes: PositiveFloat = 1.0
    """Minutes between checkpoints; one is also written after every validation."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the initial weights, the patches and their variation."""
    start: str | None = None
    """Model that training starts from: its name and the first digits of the SHA-256 of its file; null: random
    weights. (RUN/start.safetensors is a copy of it.)"""

    @model_validator(mode="after")
    def _growth_rises(self) -> Self:
        rising = all(before < after for before, after in pairwise((0.0, *self.growth, 1.0)))
        require((rising, "train.growth", "rising fractions of the schedule, above 0 and below 1"))
        return self
