"""Flax NNX models as pure functions of their parameters."""

from experiments.models.classifier import Classifier as Classifier
from experiments.models.classifier import Params as Params
from experiments.models.classifier import Stats as Stats
from experiments.models.classifier import Variables as Variables
from experiments.models.deepobs import net_2c2d as net_2c2d
from experiments.models.deepobs import net_3c3d as net_3c3d
from experiments.models.lenet import lenet5 as lenet5
from experiments.models.mlp import mlp as mlp
from experiments.models.mlp import softmax_regression as softmax_regression
from experiments.models.resnet import resnet18 as resnet18
from experiments.models.resnet import resnet_6n2 as resnet_6n2
