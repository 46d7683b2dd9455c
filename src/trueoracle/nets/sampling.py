"""Pictures drawn by a network that tells noise: from noise alone, step by step less of it.

Letters: N pictures, C channels, H x W pixels.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trueoracle.nets.diffusion import LEVELS, import_diffusers, schedule_of
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import NoiseShape

_AT_ONCE = 64


@torch.inference_mode()
def sample(net: nn.Module, shape: NoiseShape, pictures: int, *, steps: int = 50, seed: int = 0) -> Tensor:
    """Pictures (N, C, H, W) with pixels in [-1, 1], by DDIM (arXiv 2010.02502) without noise on the way (eta = 0).

    A picture depends on `net`, `shape`, `steps`, `seed` and its number, not on how many are drawn. `ModelError` for a
    number of steps or pictures that cannot be.
    """
    if not 1 <= steps <= LEVELS:
        raise ModelError(f"`steps` must lie in [1, {LEVELS}], but got {steps}")
    if pictures < 1:
        raise ModelError(f"`pictures` must be at least 1, but got {pictures}")
    weight = next(net.parameters())
    chance = np.random.default_rng(seed)
    noise_NCHW = chance.standard_normal((pictures, shape.channels, shape.height, shape.width), dtype=np.float32)
    scheduler = _scheduler(net, steps)
    drawn = []
    for picture_BCHW in torch.split(torch.from_numpy(noise_NCHW).to(weight), _AT_ONCE):
        for level in scheduler.timesteps:
            level_B = level.to(weight.device).expand(len(picture_BCHW))
            picture_BCHW = scheduler.step(net(picture_BCHW, level_B), level, picture_BCHW).prev_sample
        drawn.append(picture_BCHW)
    return torch.cat(drawn).float().clamp(-1, 1)


def _scheduler(net: nn.Module, steps: int) -> Any:
    """DDIM on the schedule that `net` was trained on, from the last level, where there is nothing but noise."""
    share_T = schedule_of(net).double().cpu().numpy()
    betas_T = 1 - share_T / np.concatenate([[1.0], share_T[:-1]])
    scheduler = import_diffusers().DDIMScheduler(
        num_train_timesteps=LEVELS, trained_betas=betas_T.tolist(), timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    return scheduler
