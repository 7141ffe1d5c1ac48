"""Flax NNX models as pure functions of their parameters."""

from experiments.models.classifier import Classifier as Classifier
from experiments.models.classifier import Params as Params
from experiments.models.classifier import Stats as Stats
from experiments.models.classifier import Variables as Variables
from experiments.models.mlp import mlp as mlp
from experiments.models.mlp import softmax_regression as softmax_regression
