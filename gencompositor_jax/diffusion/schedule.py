"""The noise schedule, the algebra between noise, velocity and x0, and loss weights.

With a clean sample x0, Gaussian noise eps and the signal share a(t) = alpha_bar[t]:

    (1)  x_t = sqrt(a) x0 + sqrt(1 - a) eps
    (2)  v   = sqrt(a) eps - sqrt(1 - a) x0
    (3)  x0  = sqrt(a) x_t - sqrt(1 - a) v
    (4)  x0  = (x_t - sqrt(1 - a) eps) / sqrt(a)                    not defined where a = 0
    (5)  |v - v'|^2 = |x0 - x0'|^2 / (1 - a)                        at the same x_t

Schedule (released scheduler settings): betas linear in the square root, then the SNR shift (6), then zero
terminal SNR (7).

    (6)  a <- a / (s + (1 - s) a)
    (7)  sqrt(a) <- (sqrt(a) - sqrt(a_last)) * sqrt(a_first) / (sqrt(a_first) - sqrt(a_last))

so that a_last = 0 and a_first stays.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax.arch import DiffusionArch, Prediction


def alpha_bars(arch: DiffusionArch) -> np.ndarray:
    """alpha_bar of each training step, float64 [train_steps], from nearly 1 down to 0 (equations 6 and 7)."""
    betas = np.linspace(arch.beta_start**0.5, arch.beta_end**0.5, arch.train_steps) ** 2
    a = np.cumprod(1.0 - betas)
    a = a / (arch.snr_shift + (1.0 - arch.snr_shift) * a)
    if arch.zero_terminal_snr:
        root = np.sqrt(a)
        a = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    if arch.prediction == "noise" and a[-1] == 0.0:
        raise ValueError(
            "noise prediction is not defined at zero terminal SNR (equation 4): set zero_terminal_snr=False"
        )
    return a


class Signal(NamedTuple):
    """sqrt(a) and sqrt(1 - a) of a batch of timesteps, shaped to broadcast against [B, t, h, w, C]."""

    signal: jax.Array
    noise: jax.Array


def signal_at(table: np.ndarray, timestep: jax.Array, ndim: int = 5) -> Signal:
    """Looks up integer timesteps [B] in `alpha_bars`; the roots are taken in float64 before rounding to
    float32.
    """
    shape = (-1,) + (1,) * (ndim - 1)
    roots = np.sqrt(table), np.sqrt(1.0 - table)
    return Signal(*(jnp.asarray(r, jnp.float32)[timestep].reshape(shape) for r in roots))


def add_noise(x0: jax.Array, eps: jax.Array, at: Signal) -> jax.Array:
    """Equation (1)."""
    return at.signal * x0 + at.noise * eps


def target(prediction: Prediction, x0: jax.Array, eps: jax.Array, at: Signal) -> jax.Array:
    """What the network should answer: velocity (equation 2), noise, or x0."""
    match prediction:
        case "velocity":
            return at.signal * eps - at.noise * x0
        case "noise":
            return eps
        case "x0":
            return x0
    raise ValueError(f"unknown prediction type {prediction!r}")


def x0_coefficients(prediction: Prediction, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(from_x, from_prediction) with x0 = from_x * x_t + from_prediction * prediction: equations (3), (4) or
    the identity.
    """
    match prediction:
        case "velocity":
            return np.sqrt(a), -np.sqrt(1.0 - a)
        case "noise":
            return 1.0 / np.sqrt(a), -np.sqrt(1.0 - a) / np.sqrt(a)
        case "x0":
            return np.zeros_like(a), np.ones_like(a)
    raise ValueError(f"unknown prediction type {prediction!r}")


def velocity_weight(prediction: Prediction, table: np.ndarray) -> np.ndarray:
    """Factor per timestep, float64 [train_steps], that turns a squared error of `prediction` into one of
    velocity (equation 5).
    """
    match prediction:
        case "velocity":
            return np.ones_like(table)
        case "noise":
            return 1.0 / table
        case "x0":
            return 1.0 / (1.0 - table)
    raise ValueError(f"unknown prediction type {prediction!r}")
