"""Learned optimizers: transformations whose leaves are a network's weights."""

from .files import load as load
from .files import origin as origin
from .files import pretrained as pretrained
from .files import pretrained_names as pretrained_names
from .files import save as save
from .lstm import lstm as lstm
from .lstm import lstm_weights as lstm_weights
from .lstm import scale_by_lstm as scale_by_lstm
from .mlp import mlp as mlp
from .mlp import mlp_weights as mlp_weights
from .mlp import scale_by_mlp as scale_by_mlp
