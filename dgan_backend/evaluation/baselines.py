"""What the student is compared with: the same network, labels, augmentation and steps.

The paper's rows (Zhang et al., CVPR 2021, table 1): transfer learning and semi-supervised learning
from the same few labels, and a network trained on many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgan_backend.merging import IGNORE
from dgan_backend.student.course import Course, UNetSettings, weights_by
from dgan_backend.student.deeplab import DeepLabConfig, new_deeplab
from dgan_backend.student.lessons import Labeled, Lessons
from dgan_backend.student.network import SegmentationNetwork
from dgan_backend.student.teaching import Checkpoint, follow, teach

Steps = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True)
class Recipe:
    """What all of them share. config: of the network. settings: steps, rates, augmentation."""

    classes: int
    settings: UNetSettings
    config: DeepLabConfig = field(default_factory=DeepLabConfig)

    def network(self) -> SegmentationNetwork:
        return new_deeplab(self.config, self.classes, self.settings.seed)

    def fit(
        self,
        lessons: Lessons,
        checkpoint: Checkpoint | None = None,
        progress: Steps = iter,
        watch: Callable[[SegmentationNetwork, int], None] | None = None,
    ) -> SegmentationNetwork:
        """From random weights: of few labels, of many, or of a student's mixture."""
        return teach(self.network(), lessons, self.settings, checkpoint, progress, watch)


def transfer(
    recipe: Recipe,
    begin: SegmentationNetwork,
    labels: Labeled,
    checkpoint: Checkpoint | None = None,
    progress: Steps = iter,
) -> SegmentationNetwork:
    """A network that learned other pictures' parts: its backbone stays, the last layers are tuned
    (ASPP and all behind it), the head is new."""
    fresh = recipe.network()
    network = begin.with_head(fresh.head).requires_grad_(True)
    _backbone(network).requires_grad_(False)
    return teach(network, labels, recipe.settings, checkpoint, progress)


def _backbone(network: SegmentationNetwork) -> nn.Module:
    found = network.backbone
    assert isinstance(found, nn.Module)
    return found


@dataclass(frozen=True)
class SemiSettings:
    """Of s4GAN (Mittal, Tatarchenko, Brox, PAMI 2019): matching: weight of feature matching;
    teaching: of self-training, for pictures that the discriminator takes for labeled ones with
    `trusted` or more; rate: of the discriminator's Adam."""

    matching: float = 0.1
    teaching: float = 1.0
    trusted: float = 0.6
    rate: float = 1e-4
    channels: tuple[int, ...] = (32, 64, 96, 128)


class Discriminator(nn.Module):
    """A picture with its parts [N, 3 + K, H, W] -> whether they are a person's: (features [N, C],
    logits [N])."""

    def __init__(self, classes: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3 + classes, *channels), channels, strict=False):
            layers += [
                nn.Conv2d(before, after, 4, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Dropout2d(0.5),
            ]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.last = nn.Linear(channels[-1], 1)

    def forward(self, images: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(torch.cat([images, parts], dim=1))
        return features, self.last(features)[:, 0]


@dataclass
class Trust:
    """How often self-training took place. shown: unlabeled pictures; trusted: those that deceived
    the discriminator."""

    shown: int = 0
    trusted: int = 0

    @property
    def share(self) -> float:
        return self.trusted / max(1, self.shown)

    def state_dict(self) -> dict[str, int]:
        return {"shown": self.shown, "trusted": self.trusted}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.shown, self.trusted = state["shown"], state["trusted"]


def semi_supervised(
    recipe: Recipe,
    labels: Labeled,
    unlabeled: Tensor,
    semi: SemiSettings | None = None,
    progress: Steps = iter,
    checkpoint: Checkpoint | None = None,
    trust: Trust | None = None,
) -> SegmentationNetwork:
    """s4GAN: the network also learns from unlabeled pictures, as many as labeled ones in a step.

    A discriminator tells a person's parts from the network's. The network is to make its own look
    alike (the mean of the discriminator's features), and learns its own labels of pictures where it
    deceives it. unlabeled: [N, 3, S, S] float32 in [-1, 1]. trust: counts those.
    """
    semi, trust = semi or SemiSettings(), trust or Trust()
    settings = recipe.settings
    network = recipe.network()
    weights = weights_by(labels.frequencies(recipe.classes), settings.balance)
    course = Course(network, weights, settings)
    others = Labeled(unlabeled, torch.full_like(unlabeled[:, 0], IGNORE, dtype=torch.uint8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        judge = Discriminator(recipe.classes, semi.channels).train()
    adam = torch.optim.Adam(judge.parameters(), semi.rate, betas=(0.9, 0.99))

    def step() -> None:
        labeled = course.changed(*labels.batch(settings.batch, course.random))
        alone, _ = course.changed(*others.batch(settings.batch, course.random))
        trust.trusted += _semi_step(course, judge, adam, semi, labeled, alone)
        trust.shown += len(alone)

    if checkpoint is not None:
        checkpoint.others.update(judge=judge, adam=adam, trust=trust)
    follow(course, step, checkpoint, progress)
    return network


def _semi_step(
    course: Course,
    judge: Discriminator,
    adam: torch.optim.Optimizer,
    semi: SemiSettings,
    labeled: tuple[Tensor, Tensor],
    alone: Tensor,
) -> int:
    """Returns how many of the unlabeled pictures were trusted."""
    images, masks = labeled
    course.begin_step()
    judge.requires_grad_(False)
    supervised = course.loss(course.network(images), masks)
    logits = course.network(alone)
    guessed = logits.softmax(dim=1)
    true = one_hot(masks, guessed.shape[1])
    real, _ = judge(images, true)
    fake, verdict = judge(alone, guessed)
    matching = (real.mean(dim=0) - fake.mean(dim=0)).abs().mean()
    loss = supervised + semi.matching * matching
    trusted = verdict.detach().sigmoid() >= semi.trusted
    if trusted.any():
        own = course.said(logits)[trusted]
        loss = loss + semi.teaching * course.loss(logits[trusted], own)
    course.move(loss)
    judge.requires_grad_(True)
    _, says_real = judge(images, true)
    _, says_fake = judge(alone, guessed.detach())
    target = torch.cat([torch.ones_like(says_real), torch.zeros_like(says_fake)])
    found = F.binary_cross_entropy_with_logits(torch.cat([says_real, says_fake]), target)
    adam.zero_grad(set_to_none=True)
    found.backward()
    adam.step()
    return int(trusted.sum())


def one_hot(masks: Tensor, classes: int) -> Tensor:
    """[N, H, W] int64 -> [N, K, H, W] float32; all 0 where it is ignored."""
    said = masks != IGNORE
    found = F.one_hot(masks * said, classes).permute(0, 3, 1, 2).float()
    return found * said[:, None]
