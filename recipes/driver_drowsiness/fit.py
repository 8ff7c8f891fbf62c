"""Fits a part's network to windows that are drawn anew in every epoch.

Invariants:

- The same sources, settings and seed give the same network on the same machine and library versions.
- Both classes weigh the same, and within a class every source that shows it, whatever the number of its pictures.
- The number of epochs is fixed: no picture is looked at to end sooner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recipes.driver_drowsiness.framing import drawn
from recipes.driver_drowsiness.network import PartNetwork, gray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from recipes.driver_drowsiness.framing import Framing

_BATCH = 64
_RATE = 3e-3
_DECAY = 1e-2
# Labels are wrong now and then, and a window may miss what it is of.
_SMOOTHING = 0.05


@dataclass(frozen=True, slots=True)
class Source:
    """Pictures uint8 [n, 96, 96, 3] with their labels, and how windows of them are drawn."""

    pictures: NDArray[np.uint8]
    positive: NDArray[np.bool_]
    framing: Framing
    glasses: float = 0.0


def fitted(sources: Sequence[Source], *, windows: int, epochs: int, seed: int) -> PartNetwork:
    """A network fitted to `epochs` times `windows` windows, by AdamW with one cycle of the rate."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = PartNetwork().train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    steps = epochs * (windows // _BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    tensors = [as_tensor(source.pictures) for source in sources]
    kinds = [
        (
            at,
            np.flatnonzero(source.positive == side),
            _BATCH // 2 // sum((one.positive == side).any() for one in sources),
        )
        for side in (True, False)
        for at, source in enumerate(sources)
        if (source.positive == side).any()
    ]
    for _ in range(steps):
        pieces: list[Tensor] = []
        labels: list[Tensor] = []
        for at, members, share in kinds:
            chosen = torch.from_numpy(members)[torch.randint(len(members), (share,), generator=generator)]
            source = sources[at]
            pieces.append(drawn(tensors[at][chosen], source.framing, generator, glasses=source.glasses))
            labels.append(torch.from_numpy(sources[at].positive)[chosen].float())
        wanted = torch.cat(labels) * (1 - 2 * _SMOOTHING) + _SMOOTHING
        loss = functional.binary_cross_entropy_with_logits(network(torch.cat(pieces)), wanted)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        cycle.step()
    return network.eval()


def as_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """Gray float32 [n, 1, height, width] of RGB uint8 [n, height, width, 3]."""
    return torch.cat([gray(part) for part in torch.from_numpy(np.ascontiguousarray(pictures)).split(256)])


def probabilities(network: PartNetwork, windows: Tensor) -> NDArray[np.float64]:
    """Raw probabilities of windows float32 [n, 1, 48, 48]."""
    with torch.inference_mode():
        return torch.sigmoid(torch.cat([network(part) for part in windows.split(512)])).double().numpy()
