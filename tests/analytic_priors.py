"""Image models without training: their denoisers are exact, so what exploration draws can be compared with the truth.

Both are real priors with one stage of pixels, whose canvases are what the formulas say.
"""

# shapes: N pictures of the mixture, H W pixels

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from xpsr_cli.exploring.operators import Operator

CONFIG = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "prediction_type": "epsilon"}
SIGNALS = DDPMScheduler.from_config(CONFIG).alphas_cumprod.double()


@dataclass
class OneStage:
    """A prior of one stage in pixels; ``estimate(x_t, a_t, prompt)`` is the mean of x0."""

    size: tuple[int, int]
    name: str = "analytic"
    channels: int = 3
    cell_px: int = 1
    steps: int = 100
    clip: bool = True
    guidance_scale: float = 1.0
    vocabulary: tuple[str, ...] = ()

    def __post_init__(self):
        self.scheduler_config = {**CONFIG, "clip_sample": self.clip}
        self.identity = {"model": self.name}
        self.scorers = {}

    def stages(self, small, large):
        assert large == self.size
        return [self]

    def predictor(self, request, given_pm1, before_pm1):
        scale = self.guidance_scale if request.guidance_scale is None else request.guidance_scale

        def predict(canvas, timestep):
            signal, x_t = SIGNALS[timestep], canvas.double()
            x0 = self.estimate(x_t, signal, request.prompt)
            if scale != 1:
                free = self.estimate(x_t, signal, "")
                x0 = free + scale * (x0 - free)
            return ((x_t - signal.sqrt() * x0) / (1 - signal).sqrt()).float()

        return predict

    def decode(self, canvas):
        return canvas

    def encode(self, pixels):
        return pixels


class GaussianPrior(OneStage):
    """Pictures whose amplitudes fall as 1 / frequency, of deviation ``spread`` in [-1, 1]; any text is as good."""

    def __init__(self, size, spread=0.25, steps=100):
        super().__init__(size, steps=steps, clip=False)
        rows, columns = torch.fft.fftfreq(size[0]).double(), torch.fft.fftfreq(size[1]).double()
        power = 1 / (rows[:, None] ** 2 + columns**2 + (0.5 / max(size)) ** 2)
        self.power = power / power.mean() * spread**2  # eigenvalues of the covariance

    def estimate(self, x_t, signal, prompt):
        gain = signal.sqrt() * self.power / (signal * self.power + 1 - signal)
        return torch.fft.ifft2(torch.fft.fft2(x_t) * gain).real

    def draw(self, count, seed=0):
        """Pictures (count, 3, H, W) of the prior."""
        white = torch.randn(count, 3, *self.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return torch.fft.ifft2(torch.fft.fft2(white) * self.power.sqrt()).real

    def covariance(self):
        """(H W, H W) of one channel."""
        unit = torch.eye(self.size[0] * self.size[1], dtype=torch.float64).reshape(-1, *self.size)
        return torch.fft.ifft2(torch.fft.fft2(unit) * self.power).real.flatten(1)

    def posterior(self, operator: Operator, y_pm1: Tensor, sigma: float = 0.0):
        """Mean (3, H, W) and deviation (H, W) of the pictures that reduce to ``y_pm1`` (3, h, w), whose noise has
        deviation ``sigma``."""
        matrix = torch.kron(operator._rows.matrix, operator._columns.matrix)
        prior = self.covariance()
        small = matrix @ prior @ matrix.T + sigma**2 * torch.eye(len(matrix), dtype=torch.float64)
        gain = torch.linalg.solve(small, matrix @ prior).T
        mean = (y_pm1.double().flatten(1) @ gain.T).reshape(-1, *self.size)
        variance = (prior - gain @ matrix @ prior).diagonal().clamp_min(0)
        return mean, variance.sqrt().reshape(self.size)


class ShapesPrior(OneStage):
    """A mixture of Gaussians around small pictures of shapes; its prompts are disc, square, cross and ring."""

    def __init__(self, count=2000, side=16, width=0.05, steps=50, guidance_scale=3.0):
        words = ("disc", "square", "cross", "ring")
        super().__init__((side, side), steps=steps, guidance_scale=guidance_scale, vocabulary=words)
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(count) % len(words)
        self.pictures = _shapes(self.labels, side, generator).flatten(1).double()  # (N, 3 H W)
        self.of = {word: self.pictures[self.labels == label].clone() for label, word in enumerate(words)}
        self.of[""] = self.pictures
        self.squares = {word: pictures.square().sum(1) for word, pictures in self.of.items()}
        self.variance = width**2

    def estimate(self, x_t, signal, prompt):
        pictures, root = self.of[prompt], signal.sqrt()
        spread = signal * self.variance + 1 - signal
        fits = root * (pictures @ x_t.flatten()) - signal / 2 * self.squares[prompt]
        mean = (torch.softmax(fits / spread, 0) @ pictures).reshape(1, 3, *self.size)
        return mean + root * self.variance / spread * (x_t - root * mean)

    def picture(self, index):
        """(3, H, W) of the pictures it knows."""
        return self.pictures[index].reshape(3, *self.size)

    def word(self, index):
        return self.vocabulary[int(self.labels[index])]

    def energy(self, prompt):
        """Minus the log probability of a word, seen through noise of deviation 0.5."""
        word = self.labels == self.vocabulary.index(prompt)

        def energy(pixels):
            fits = self._nearness(pixels.double()) / 0.5**2
            return torch.logsumexp(fits, 0) - torch.logsumexp(fits[word], 0)

        return energy

    def word_of(self, pixels_u8):
        """The word whose pictures one of (H, W, 3) uint8 is nearest to."""
        pixels = torch.from_numpy(pixels_u8).permute(2, 0, 1).double() / 127.5 - 1
        return self.vocabulary[int(self.labels[self._nearness(pixels).argmax()])]

    def _nearness(self, pixels):
        """(N,) minus half the squared distances from each picture, but for what they have in common."""
        return self.pictures @ pixels.flatten() - self.squares[""] / 2


def _shapes(labels, side, generator):
    """(N, 3, side, side) in [-1, 1]: one shape each of any colour, place and size on a ground of any colour."""

    def random(low, high, *shape):
        return low + (high - low) * torch.rand(len(labels), *shape, 1, 1, generator=generator)

    axis = (torch.arange(side) + 0.5) / side
    y, x = axis[:, None] - random(0.4, 0.6), axis[None] - random(0.4, 0.6)
    size = random(0.2, 0.35)
    round_, square = (y**2 + x**2).sqrt() - size, torch.maximum(y.abs(), x.abs()) - size * 0.87
    cross = torch.maximum(torch.minimum(y.abs(), x.abs()) - size * 0.35, torch.maximum(y.abs(), x.abs()) - size)
    ring = torch.maximum(round_, size * 0.6 - (y**2 + x**2).sqrt())
    distance = torch.stack([round_, square, cross, ring])[labels, torch.arange(len(labels))]
    inside = (0.5 - distance * side).clamp(0, 1)[:, None]  # antialiased
    ground, colour = random(-0.95, 0.95, 3), random(-0.95, 0.95, 3)
    return ground + inside * (colour - ground)
