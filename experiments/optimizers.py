"""The seven optimizers of the study, by the names that tables and pictures give them.

Only the learning rate is tuned. The rest are the values of the study (momentum 0.9) and the library's defaults.
"""

from __future__ import annotations

import gradtx

_TUNED = 1.0
"""Stands where the sweep puts its learning rates."""

OPTIMIZERS: dict[str, gradtx.GradientTransformation] = {
    "SGD": gradtx.sgd(_TUNED),
    "Momentum": gradtx.sgd(_TUNED, momentum=0.9),
    "NAG": gradtx.nag(_TUNED, 0.9),
    "Adagrad": gradtx.adagrad(_TUNED),
    "Adadelta": gradtx.adadelta(_TUNED),
    "RMSprop": gradtx.rmsprop(_TUNED),
    "Adam": gradtx.adam(_TUNED),
}
