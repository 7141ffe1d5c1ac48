"""The seven optimizers by the formulas of the study of 2016: their papers', but for what is said here.

They differ from `experiments.methods` where the library's defaults are not the papers': Adagrad's sum begins at 0.
Epsilon is 1e-8 (Adadelta's 1e-6, as its paper has it) and stands where the study's formula has it. The learning rate
is always given by whoever runs them; the formula of Adadelta has none, which is 1.
"""

from __future__ import annotations

import gradtx

_GIVEN = 1.0

FORMULAS: dict[str, gradtx.GradientTransformation] = {
    "SGD": gradtx.sgd(_GIVEN),
    "Momentum": gradtx.sgd(_GIVEN, momentum=0.9),
    "NAG": gradtx.nag(_GIVEN, 0.9),
    "Adagrad": gradtx.adagrad(_GIVEN, initial_accumulator_value=0.0, eps=1e-8),
    "Adadelta": gradtx.adadelta(_GIVEN, rho=0.9, eps=1e-6),
    "RMSprop": gradtx.rmsprop(_GIVEN, decay=0.9, eps=1e-8),
    "Adam": gradtx.adam(_GIVEN),
}
ADAPTIVE = ("Adagrad", "Adadelta", "RMSprop", "Adam")
