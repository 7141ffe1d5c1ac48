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
from ._wrappers.partition import partition as partition
from ._wrappers.partition import multi_transform as multi_transform
from ._wrappers.masked import masked as masked
from ._wrappers.masked import freeze as freeze
from ._wrappers.masked import selective_transform as selective_transform
from ._transforms.scale_by_rule import scale_by_rule as scale_by_rule
from ._transforms.scale_by_rule import layerwise_decay as layerwise_decay
from ._describe import describe as describe

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

from ._wrappers.average import average as average
from ._wrappers.tail import polyak_average as polyak_average
from ._wrappers.tail import tail_average as tail_average
from ._wrappers.lawa import lawa as lawa
from ._wrappers.lookahead import lookahead as lookahead
from ._wrappers.schedule_free import schedule_free as schedule_free
from ._wrappers.schedule_free import schedule_free_eval_params as schedule_free_eval_params
from ._optimizers.schedule_free import schedule_free_sgd as schedule_free_sgd
from ._optimizers.schedule_free import schedule_free_adamw as schedule_free_adamw
from ._wrappers.target_networks import incremental_update as incremental_update
from ._wrappers.target_networks import periodic_update as periodic_update

# Where to differentiate

from ._wrappers.sam import sam as sam
from ._wrappers.sam import sam_perturbation as sam_perturbation
from ._wrappers.extragradient import extragradient as extragradient
from ._wrappers.ema_nesterov import ema_nesterov as ema_nesterov

# Corrections of updates

from ._wrappers.cautious import cautious as cautious
from ._transforms.grokfast import grokfast as grokfast
from ._transforms.mars import mars as mars
from ._wrappers.grafting import grafting as grafting
from ._wrappers.mechanize import mechanize as mechanize
from ._transforms.plateau import reduce_on_plateau as reduce_on_plateau
from ._transforms.trust_ratio import scale_by_trust_ratio as scale_by_trust_ratio

# Constraints on parameters

from ._transforms.constraints import keep_params_nonnegative as keep_params_nonnegative
from ._transforms.constraints import max_norm as max_norm
from ._transforms.constraints import norm_floor as norm_floor
from ._transforms.constraints import project_norm as project_norm
from ._transforms.constraints import hyperball as hyperball

# Weight decay

from ._wrappers.decay_weights import decay_weights as decay_weights

# Clipping and noise

from ._transforms.clip import clip_by_block_rms as clip_by_block_rms
from ._transforms.adaptive_clip import adaptive_grad_clip as adaptive_grad_clip
from ._transforms.zclip import zclip as zclip
from ._transforms.per_example import per_example_global_norm_clip as per_example_global_norm_clip
from ._transforms.per_example import per_example_layer_norm_clip as per_example_layer_norm_clip
from ._transforms.per_example import differentially_private_aggregate as differentially_private_aggregate
from ._transforms.noise import add_noise as add_noise
from ._transforms.normalize import centralize as centralize
from ._transforms.normalize import normalize as normalize
from ._transforms.normalize import normalize_by_update_norm as normalize_by_update_norm
from ._transforms.normalize import zero_nans as zero_nans

# Telemetry

from ._report import report as report
from ._wrappers.observe import observe as observe
from ._transforms.monitor import monitor as monitor
from ._transforms.monitor import snapshot as snapshot
from ._transforms.monitor import measure_with_ema as measure_with_ema

# Precision of the state

from ._wrappers.state_dtype import state_dtype as state_dtype
from ._wrappers.quantize_state import quantize_state as quantize_state
from ._wrappers.master_weights import master_weights as master_weights
from ._wrappers.stochastic_round import stochastic_round as stochastic_round

# Sharded state

from ._states.specs import state_specs as state_specs
from ._states.specs import state_structs as state_structs
from ._wrappers.zero import zero as zero

# Sweeps

from ._sweeps.grid import grid as grid
from ._sweeps.lanes import stack as stack
from ._sweeps.lanes import lane as lane
from ._sweeps.lanes import take as take
from ._sweeps.sweep import sweep as sweep
from ._sweeps.search import successive_halving as successive_halving
from ._sweeps.search import population_based_training as population_based_training
from ._sweeps.lanes import Grid as Grid
from ._sweeps.sweep import SweepResults as SweepResults
from ._sweeps.search import Halving as Halving
from ._sweeps.search import Population as Population

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
from ._wrappers.sam import SAMState as SAMState
from ._wrappers.extragradient import ExtragradientState as ExtragradientState
from ._wrappers.ema_nesterov import EmaNesterovState as EmaNesterovState
from ._wrappers.cautious import CautiousState as CautiousState
from ._transforms.grokfast import GrokfastState as GrokfastState
from ._transforms.mars import MarsState as MarsState
from ._wrappers.grafting import GraftingState as GraftingState
from ._wrappers.mechanize import MechanicState as MechanicState
from ._transforms.plateau import ReduceLROnPlateauState as ReduceLROnPlateauState
from ._transforms.constraints import HyperballState as HyperballState
from ._linesearch.zoom import ScaleByZoomLinesearchState as ScaleByZoomLinesearchState
from ._linesearch.zoom import ZoomLinesearchInfo as ZoomLinesearchInfo
from ._linesearch.backtracking import ScaleByBacktrackingLinesearchState as ScaleByBacktrackingLinesearchState
from ._linesearch.backtracking import BacktrackingLinesearchInfo as BacktrackingLinesearchInfo
from ._wrappers.partition import PartitionState as PartitionState
from ._wrappers.masked import MaskedState as MaskedState
from ._transforms.scale_by_rule import ScaleByRuleState as ScaleByRuleState
from ._wrappers.decay_weights import DecayWeightsState as DecayWeightsState
from ._transforms.zclip import ZClipState as ZClipState
from ._transforms.per_example import DifferentiallyPrivateAggregateState as DifferentiallyPrivateAggregateState
from ._transforms.noise import AddNoiseState as AddNoiseState
from ._transforms.normalize import ZeroNansState as ZeroNansState
from ._wrappers.accumulate import MultiStepsState as MultiStepsState
from ._transforms.apply_every import ApplyEvery as ApplyEvery
from ._wrappers.guard import GuardState as GuardState
from ._wrappers.apply_if_finite import ApplyIfFiniteState as ApplyIfFiniteState
from ._wrappers.loss_scale import DynamicLossScaleState as DynamicLossScaleState
from ._wrappers.conditionally import ConditionallyTransformState as ConditionallyTransformState
from ._wrappers.conditionally import ConditionallyMaskState as ConditionallyMaskState
from ._wrappers.average import AverageState as AverageState
from ._wrappers.lawa import LawaState as LawaState
from ._wrappers.lookahead import LookaheadState as LookaheadState
from ._wrappers.schedule_free import ScheduleFreeState as ScheduleFreeState
from ._wrappers.schedule_free import ScheduleFreeWithXState as ScheduleFreeWithXState
from ._wrappers.state_dtype import StateDtypeState as StateDtypeState
from ._wrappers.quantize_state import QuantizeStateState as QuantizeStateState
from ._wrappers.master_weights import MasterWeightsState as MasterWeightsState
from ._wrappers.stochastic_round import StochasticRoundState as StochasticRoundState

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
