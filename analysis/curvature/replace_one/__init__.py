"""Stability of one-pass SGD, measured by coupled pairs of trainings that differ in one example.

    w_t = w_{t-1} - c / t * grad l(w_{t-1}, z_t),   t = 1 .. m,   one example a step, in a drawn order

A fork at step i takes a fresh example z in place of z_i and goes on with the same examples, to weights A_S(i); without
it the pass ends at A_S.  On-average stability is the mean of l(A_S, z) - l(A_S(i), z) over i and z (Kuzborskij &
Lampert 2018, Definition 1) and so, z and z_i changing places, of l(A_S(i), z_i) - l(A_S, z_i).  Both are read off one
fork.  The two trainings share all but one step: of two that share none the difference is that of two trainings.

A pass over m examples is the beginning of one over more: passes and forks are read at several m on their way.

In evaluation mode, so that BatchNorm keeps the statistics it has; over the weights that require a gradient.  A fork is
followed to its end when the pass comes to it, so that two copies of the weights are all that is held.
"""

from __future__ import annotations

from analysis.curvature.replace_one.descent import Descent, Diverged, GradientNoise, gradient_noise, within_unit
from analysis.curvature.replace_one.forks import Fork, forks
from analysis.curvature.replace_one.told import Positions, Stability, stability

PASSES = 1  # part of what identifies a measured pass: raised where the numbers of this package change

__all__ = [
    "PASSES", "Descent", "Diverged", "Fork", "GradientNoise", "Positions", "Stability", "forks", "gradient_noise",
    "stability", "within_unit",
]  # fmt: skip
