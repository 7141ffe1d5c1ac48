"""Learned optimizers: transformations whose leaves are a network's weights."""

from ._files import load as load
from ._files import origin as origin
from ._files import pretrained as pretrained
from ._files import pretrained_names as pretrained_names
from ._files import save as save
from ._lstm import lstm as lstm
from ._lstm import lstm_weights as lstm_weights
from ._lstm import scale_by_lstm as scale_by_lstm
from ._mlp import mlp as mlp
from ._mlp import mlp_weights as mlp_weights
from ._mlp import scale_by_mlp as scale_by_mlp
