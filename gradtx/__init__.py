"""Gradient transformations for JAX whose hyperparameters are data."""

from typing import TYPE_CHECKING

# The contract

from ._core.contract import GradientTransformation as GradientTransformation
from ._core.contract import GradientTransformationExtraArgs as GradientTransformationExtraArgs
from ._core.contract import Stateless as Stateless
from ._core.contract import Recipe as Recipe
from ._core.schedule import Schedule as Schedule
from ._core.chain import chain as chain
from ._core.chain import named_chain as named_chain
from ._trees.apply import apply_updates as apply_updates
from ._batch import batch_axes as batch_axes
from ._core.contract import current as current
from ._core.paths import hyperparams as hyperparams
from ._config import to_config as to_config
from ._config import from_config as from_config

# Optimizers

from ._optimizers.sgd import sgd as sgd
from ._optimizers.nag import nag as nag
from ._optimizers.adaptive import adagrad as adagrad
from ._optimizers.adaptive import adadelta as adadelta
from ._optimizers.adaptive import rmsprop as rmsprop
from ._optimizers.adam import adam as adam
from ._optimizers.adam import adamw as adamw
from ._optimizers.lion import lion as lion
from ._optimizers.lion import scale_by_lion as scale_by_lion
from ._optimizers.lbfgs import lbfgs as lbfgs
from ._optimizers.lbfgs import stochastic_lbfgs as stochastic_lbfgs
from ._optimizers.second_order import newton as newton
from ._optimizers.second_order import newton_cg as newton_cg
from ._optimizers.second_order import gauss_newton_cg as gauss_newton_cg

# Parts

from ._transforms.identity import identity as identity
from ._transforms.identity import stateless as stateless
from ._transforms.scale import scale as scale
from ._transforms.scale import scale_by_learning_rate as scale_by_learning_rate
from ._transforms.scale import scale_by_schedule as scale_by_schedule
from ._transforms.scale import set_to_zero as set_to_zero
from ._transforms.trace import trace as trace
from ._transforms.trace import ema as ema
from ._transforms.bias_correction import bias_correction as bias_correction
from ._transforms.second_moment import scale_by_rms as scale_by_rms
from ._transforms.second_moment import scale_by_stddev as scale_by_stddev
from ._transforms.second_moment import scale_by_rss as scale_by_rss
from ._transforms.adadelta import scale_by_adadelta as scale_by_adadelta
from ._transforms.adam import scale_by_adam as scale_by_adam
from ._transforms.weight_decay import add_decayed_weights as add_decayed_weights
from ._transforms.clip import clip as clip
from ._transforms.clip import clip_by_global_norm as clip_by_global_norm
from ._transforms.clip import global_norm as global_norm
from ._curvature.lbfgs import scale_by_lbfgs as scale_by_lbfgs
from ._curvature.stochastic_lbfgs import scale_by_stochastic_lbfgs as scale_by_stochastic_lbfgs
from ._curvature.newton import scale_by_newton as scale_by_newton
from ._curvature.newton_cg import scale_by_newton_cg as scale_by_newton_cg
from ._curvature.gauss_newton import scale_by_gauss_newton_cg as scale_by_gauss_newton_cg

# Groups

from ._rules import by_path as by_path
from ._rules import by_rank as by_rank
from ._rules import by_rule as by_rule

# Accumulation and guards

from ._wrappers.accumulate import accumulate as accumulate
from ._wrappers.accumulate import MultiSteps as MultiSteps
from ._wrappers.accumulate import ShouldSkipUpdateFunction as ShouldSkipUpdateFunction
from ._wrappers.skip_rules import skip_not_finite as skip_not_finite
from ._wrappers.skip_rules import skip_large_updates as skip_large_updates
from ._transforms.apply_every import apply_every as apply_every
from ._wrappers.guard import guard as guard
from ._wrappers.apply_if_finite import apply_if_finite as apply_if_finite
from ._wrappers.loss_scale import dynamic_loss_scale as dynamic_loss_scale
from ._wrappers.loss_scale import loss_scale as loss_scale
from ._wrappers.conditionally import conditionally_transform as conditionally_transform
from ._wrappers.conditionally import conditionally_mask as conditionally_mask

# Averages

# Where to differentiate

# Corrections of updates

# Constraints on parameters

# Weight decay

# Clipping and noise

# Telemetry

from ._report import report as report
from ._wrappers.observe import observe as observe
from ._transforms.monitor import monitor as monitor
from ._transforms.monitor import snapshot as snapshot
from ._transforms.monitor import measure_with_ema as measure_with_ema

# Precision of the state

# Sharded state

# Sweeps

# Minimising

from ._minimize import minimize as minimize
from ._minimize import MinimizeResult as MinimizeResult
from ._minimize import Reason as Reason
from ._minimize import CompositeLoss as CompositeLoss
from ._linesearch.zoom import scale_by_zoom_linesearch as scale_by_zoom_linesearch
from ._linesearch.backtracking import scale_by_backtracking_linesearch as scale_by_backtracking_linesearch
from ._linesearch.search import Outcome as Outcome
from ._linesearch.from_state import value_and_grad_from_state as value_and_grad_from_state

# Schedules

from ._schedules.basic import constant_schedule as constant_schedule
from ._schedules.basic import linear_schedule as linear_schedule
from ._schedules.basic import polynomial_schedule as polynomial_schedule
from ._schedules.basic import exponential_decay as exponential_decay
from ._schedules.cosine import cosine_decay_schedule as cosine_decay_schedule
from ._schedules.cosine import warmup_cosine_decay_schedule as warmup_cosine_decay_schedule
from ._schedules.piecewise import piecewise_constant_schedule as piecewise_constant_schedule
from ._schedules.piecewise import join_schedules as join_schedules

# Annotations of fields

from ._core.fields import Scalar as Scalar
from ._core.fields import NonNegative as NonNegative
from ._core.fields import Positive as Positive
from ._core.fields import Decay as Decay
from ._core.fields import SumDecay as SumDecay
from ._core.schedule import ScalarOrSchedule as ScalarOrSchedule
from ._core.schedule import LearningRate as LearningRate
from ._core.fields import Data as Data
from ._core.fields import Static as Static
from ._core.fields import AtLeastOne as AtLeastOne
from ._core.fields import DType as DType
from ._core.fields import Range as Range
from ._types import Params as Params
from ._types import Updates as Updates
from ._types import OptState as OptState

# Tools for writing your own

from ._trees.map import map_leaves as map_leaves
from ._trees.map import zeros_like as zeros_like
from ._core.schedule import value_at as value_at
from ._maths import safe_increment as safe_increment
from ._maths import safe_sqrt as safe_sqrt

# States

from ._core.contract import EmptyState as EmptyState
from ._transforms.scale import ScaleByLearningRateState as ScaleByLearningRateState
from ._transforms.scale import ScaleByScheduleState as ScaleByScheduleState
from ._transforms.trace import TraceState as TraceState
from ._transforms.trace import EmaState as EmaState
from ._transforms.bias_correction import BiasCorrectionState as BiasCorrectionState
from ._transforms.second_moment import ScaleByRmsState as ScaleByRmsState
from ._transforms.second_moment import ScaleByRmsWithCountState as ScaleByRmsWithCountState
from ._transforms.second_moment import ScaleByRStdDevState as ScaleByRStdDevState
from ._transforms.second_moment import ScaleByRStdDevWithCountState as ScaleByRStdDevWithCountState
from ._transforms.second_moment import ScaleByRssState as ScaleByRssState
from ._transforms.adadelta import ScaleByAdaDeltaState as ScaleByAdaDeltaState
from ._transforms.adam import ScaleByAdamState as ScaleByAdamState
from ._transforms.weight_decay import AddDecayedWeightsState as AddDecayedWeightsState
from ._optimizers.lion import ScaleByLionState as ScaleByLionState
from ._optimizers.nag import NagState as NagState
from ._curvature.lbfgs import ScaleByLBFGSState as ScaleByLBFGSState
from ._curvature.stochastic_lbfgs import StochasticLBFGSState as StochasticLBFGSState
from ._curvature.newton import NewtonState as NewtonState
from ._curvature.newton_cg import NewtonCGState as NewtonCGState
from ._linesearch.zoom import ScaleByZoomLinesearchState as ScaleByZoomLinesearchState
from ._linesearch.zoom import ZoomLinesearchInfo as ZoomLinesearchInfo
from ._linesearch.backtracking import ScaleByBacktrackingLinesearchState as ScaleByBacktrackingLinesearchState
from ._linesearch.backtracking import BacktrackingLinesearchInfo as BacktrackingLinesearchInfo
from ._wrappers.accumulate import MultiStepsState as MultiStepsState
from ._transforms.apply_every import ApplyEvery as ApplyEvery
from ._wrappers.guard import GuardState as GuardState
from ._wrappers.apply_if_finite import ApplyIfFiniteState as ApplyIfFiniteState
from ._wrappers.loss_scale import DynamicLossScaleState as DynamicLossScaleState
from ._wrappers.conditionally import ConditionallyTransformState as ConditionallyTransformState
from ._wrappers.conditionally import ConditionallyMaskState as ConditionallyMaskState

from ._wrappers.observe import ObserveState as ObserveState
from ._transforms.monitor import MonitorState as MonitorState
from ._transforms.monitor import SnapshotState as SnapshotState

if TYPE_CHECKING:  # a type checker takes a module with `__getattr__` for one that has every name
    from . import interop as interop
    from . import learned as learned
    from . import testing as testing
else:  # imported at their first use; and a hint for a name of optax's that is not here
    from ._from_optax import __dir__ as __dir__
    from ._from_optax import __getattr__ as __getattr__

__version__ = "0.1.0.dev0"
