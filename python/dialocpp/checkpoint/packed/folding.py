"""How can a LayerNorm share its outlier channels with the linear after it, so that int8 keeps both?

A LayerNorm's output x_k = gain_k * z_k + bias_k (z normalised) feeds y_n = sum_k x_k W[k, n]. For any s_k > 0
(x_k / s_k) (s_k W[k, n]) is the same sum. Int8 has one step for a whole row of x and one for a whole column
of W, so it is best when no channel of either stands out. s_k = sqrt(a_k / w_k), with a_k the channel's size
in x and w_k its largest weight, gives both the size sqrt(a_k w_k): the balanced case (alpha = 1/2) of
SmoothQuant, arXiv:2211.10438, with a_k read from the LayerNorm instead of from calibration data. It is free
at run time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


def fold_scales(gain: F32, bias: F32, weight: F32) -> F32:
    """s (K,) for a LayerNorm's gain and bias (K,) and the following weight (K, N).

    Applied as gain / s, bias / s and weight * s[:, None] it leaves the function as it was. A channel that is
    zero on either side keeps s = 1; over the others the geometric mean is 1, as a common factor is no use.
    """
    # z has mean 0 and variance 1, so sqrt(gain^2 + bias^2) is the root mean square of the channel.
    activation = np.hypot(gain.astype(np.float64), bias.astype(np.float64))
    largest = np.maximum(weight.max(axis=1), -weight.min(axis=1)).astype(np.float64)
    live = (activation > 0) & (largest > 0)
    log_scale = np.zeros(gain.shape)
    log_scale[live] = (np.log(activation[live]) - np.log(largest[live])) / 2
    log_scale[live] -= log_scale[live].mean() if live.any() else 0.0
    return np.exp(log_scale).astype(np.float32)
