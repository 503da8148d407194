"""The noise schedule, conversions between noise, velocity and x0, and loss weights.

For a clean sample x0, Gaussian noise eps and a = alpha_bar[t] (equation (1) is the paper's equation 1):

    (1)  x_t = sqrt(a) x0 + sqrt(1 - a) eps
    (2)  v   = sqrt(a) eps - sqrt(1 - a) x0
    (3)  x0  = sqrt(a) x_t - sqrt(1 - a) v
    (4)  x0  = (x_t - sqrt(1 - a) eps) / sqrt(a)                    undefined at a = 0
    (5)  |v - v'|^2 = |x0 - x0'|^2 / (1 - a)                        at the same x_t

The released schedule has betas that are linear in the square root ("scaled linear"), then an SNR shift (6),
then zero terminal SNR (7), which sets the last alpha_bar to 0 and keeps the first:

    (6)  a <- a / (s + (1 - s) a)
    (7)  sqrt(a) <- (sqrt(a) - sqrt(a_last)) sqrt(a_first) / (sqrt(a_first) - sqrt(a_last))

The paper's objective (equation 2) predicts noise; the release predicts velocity, which is defined at zero
terminal SNR. The prediction type is a field of the architecture.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from gencompositor_jax.arch import DiffusionArch, Prediction


def alpha_bars(arch: DiffusionArch) -> Float[np.ndarray, " {arch.train_steps}"]:
    """alpha_bar of each training step, float64, from almost 1 down to 0: equations (6) and (7)."""
    betas = np.linspace(arch.beta_start**0.5, arch.beta_end**0.5, arch.train_steps) ** 2
    a = np.cumprod(1.0 - betas)
    a = a / (arch.snr_shift + (1.0 - arch.snr_shift) * a)
    if arch.zero_terminal_snr:
        root = np.sqrt(a)
        a = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return a


class Signal(NamedTuple):
    """sqrt(a) and sqrt(1 - a) for a batch of timesteps, shaped to broadcast against latents."""

    signal: Float[jax.Array, "B ..."]
    noise: Float[jax.Array, "B ..."]


def signal_at(table: Float[np.ndarray, " steps"], timestep: Int[jax.Array, " B"], ndim: int = 5) -> Signal:
    """Looks up timesteps in `alpha_bars`. The roots are float64, rounded once to float32.

    ndim: dimensions of the arrays to broadcast against.
    """
    shape = (-1,) + (1,) * (ndim - 1)
    roots = np.sqrt(table), np.sqrt(1.0 - table)
    return Signal(*(jnp.asarray(r, jnp.float32)[timestep].reshape(shape) for r in roots))


def add_noise(
    x0: Float[jax.Array, " B *latent"], eps: Float[jax.Array, " B *latent"], at: Signal
) -> Float[jax.Array, " B *latent"]:
    """x_t of equation (1)."""
    return at.signal * x0 + at.noise * eps


def target(
    prediction: Prediction,
    x0: Float[jax.Array, " B *latent"],
    eps: Float[jax.Array, " B *latent"],
    at: Signal,
) -> Float[jax.Array, " B *latent"]:
    """The network's target: velocity (equation 2), noise or x0."""
    match prediction:
        case "velocity":
            return at.signal * eps - at.noise * x0
        case "noise":
            return eps
        case "x0":
            return x0
    raise ValueError(f"unknown prediction type {prediction!r}")


def x0_coefficients(
    prediction: Prediction, a: Float[np.ndarray, " steps"]
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """(from_x, from_prediction) such that x0 = from_x x_t + from_prediction prediction.

    Equation (3) for velocity, (4) for noise, the identity for x0.
    """
    match prediction:
        case "velocity":
            return np.sqrt(a), -np.sqrt(1.0 - a)
        case "noise":
            return 1.0 / np.sqrt(a), -np.sqrt(1.0 - a) / np.sqrt(a)
        case "x0":
            return np.zeros_like(a), np.ones_like(a)
    raise ValueError(f"unknown prediction type {prediction!r}")


def velocity_weight(
    prediction: Prediction, table: Float[np.ndarray, " steps"]
) -> Float[np.ndarray, " steps"]:
    """Loss weight of each timestep, float64: a squared error of `prediction` times it is one of velocity
    (equation 5).
    """
    match prediction:
        case "velocity":
            return np.ones_like(table)
        case "noise":
            return 1.0 / table
        case "x0":
            return 1.0 / (1.0 - table)
    raise ValueError(f"unknown prediction type {prediction!r}")
