"""Hints for optax's names that gradtx does not have, and modules that load at their first use.

`__getattr__` is gradtx's own: Python calls it for a name that the package does not have. The table is data, so that
optax need not be installed; a test compares it with the installed one.
"""

import difflib
import importlib
import sys
from typing import Any

LAZY = ("interop", "learned", "testing")
"""Modules that are imported at their first use."""

_GROUPS = {
    "losses are optax's: `optax.{}`": """
        convex_kl_divergence cosine_distance cosine_similarity ctc_loss ctc_loss_with_forward_probs
        generalized_kl_divergence hinge_loss huber_loss kl_divergence l2_loss log_cosh ntxent
        safe_softmax_cross_entropy sigmoid_binary_cross_entropy sigmoid_focal_loss smooth_labels softmax_cross_entropy
        softmax_cross_entropy_with_integer_labels squared_error""",
    "losses are optax's: `optax.losses.{}`": """
        binary_dice_loss dice_loss kl_divergence_with_log_targets make_fenchel_young_loss
        multiclass_generalized_dice_loss multiclass_hinge_loss multiclass_perceptron_loss multiclass_sparsemax_loss
        perceptron_loss poly_loss_cross_entropy ranking_softmax_loss sparsemax_loss triplet_margin_loss""",
    "use optax's as it is: `gradtx.chain(optax.{}(...))`. Its numbers are fixed there, and not data": """
        adabelief adafactor adamax adamaxw adan amsgrad fromage lamb lars noisy_sgd novograd optimistic_adam
        optimistic_adam_v2 optimistic_gradient_descent polyak_sgd radam rprop sign_sgd signum sm3 yogi
        scale_by_adamax scale_by_adan scale_by_amsgrad scale_by_belief scale_by_distance_over_gradients
        scale_by_factored_rms scale_by_novograd scale_by_optimistic_gradient scale_by_param_block_norm
        scale_by_param_block_rms scale_by_polyak scale_by_radam scale_by_rprop scale_by_sign scale_by_sm3
        scale_by_yogi""",
    "use optax's as it is: `gradtx.chain(optax.contrib.{}(...))`. Its numbers are fixed there, and not data": """
        acprop ademamix adopt cocob dadapt_adamw dog dowg dpsgd galore madgrad momo
        momo_adam muon prodigy scale_by_acprop scale_by_ademamix scale_by_adopt
        scale_by_cocob scale_by_galore scale_by_madgrad scale_by_muon scale_by_simplified_ademamix
        simplified_ademamix sophia hutchinson_estimator_diag_hessian""",
    "wrap with optax's: `optax.{}`, which takes gradtx's transformations": "flatten",
    "wrap with optax's: `optax.contrib.{}`, which takes gradtx's transformations": "split_real_and_imaginary",
    "not needed: every `gradtx.GradientTransformation` takes extra arguments, and ignores what it does not declare": (
        "with_extra_args_support"
    ),
    "not needed: hyperparameters are data. Change them with `tx.replace(learning_rate=...)`, read them with "
    "`gradtx.current(tx, state)` or `gradtx.hyperparams(tx)`, and give schedules as they are": """
        inject_hyperparams inject_stateful_hyperparams""",
    "optax's schedules are taken as they are: `gradtx.adam(optax.{}(...))`; or join gradtx's with "
    "`gradtx.join_schedules`": """
        cosine_onecycle_schedule linear_onecycle_schedule piecewise_interpolate_schedule sgdr_schedule
        warmup_constant_schedule warmup_exponential_decay_schedule""",
    "helpers for trees are JAX's and optax's: `jax.tree.map`, `optax.tree.add` and others; gradtx has "
    "`gradtx.zeros_like` and `gradtx.global_norm`": """
        tree tree_utils tree_map_params""",
    "it is optax's alone: `optax.{}`": """
        assignment experimental losses microbatch microbatching multi_normal nnls perturbations projections
        second_order matrix_inverse_pth_root power_iteration safe_norm safe_root_mean_squares
        scale_gradient init_empty_state update_infinity_moment update_moment update_moment_per_elem_norm MaskOrFn""",
    "all names are in `gradtx` itself, and what is optax's alone in `optax.{}`": "contrib schedules transforms",
    "types are `gradtx.GradientTransformation`, `gradtx.Schedule`, `gradtx.Params`, `gradtx.Updates` and "
    "`gradtx.OptState`": """
        TransformInitFn TransformUpdateExtraArgsFn TransformUpdateFn""",
    "a state is what `tx.init(params)` returns; read its fields by name, or bring in optax's with "
    "`gradtx.interop.from_optax`": """
        ApplyEvery GaLoreDimensionNumbers MuonDimensionNumbers WrappedSchedule""",
}
_HINTS = {name: hint.format(name) for hint, names in _GROUPS.items() for name in names.split()} | {
    "nadam": "it is `gradtx.adam(..., nesterov=True)`",
    "nadamw": "it is `gradtx.adamw(..., nesterov=True)`",
    "safe_int32_increment": "it is `gradtx.safe_increment`",
    "stateless_with_tree_map": "it is `gradtx.stateless`, with `jax.tree.map` inside",
    "MaskedNode": "what a mask (`gradtx.masked`) leaves out is `None` here",
    "LookaheadParams": "not needed: `gradtx.lookahead` takes plain parameters, and has the slow ones in its state",
    "momentum": "it is `gradtx.trace`, as in optax; the optimizer is `gradtx.sgd(learning_rate, momentum)`",
}


def hint(name: str) -> str:
    """Say what to write instead of a name that gradtx does not have; empty where nothing is known."""
    is_state = name.endswith("State") and name != "State"
    return _HINTS.get(name, _HINTS["ApplyEvery"] if is_state else "")


def __getattr__(name: str) -> Any:
    """A module of `LAZY`, imported now. Raises AttributeError for any other name, with what to write instead."""
    package = sys.modules[__package__ or "gradtx"]
    if name in LAZY:
        return importlib.import_module(f"{package.__name__}.{name}")
    known = hint(name)
    if not known and not name.startswith("_"):
        close = difflib.get_close_matches(name, __dir__())
        known = f"did you mean {' or '.join(close)}?" if close else ""
    raise AttributeError(": ".join(filter(None, [f"module 'gradtx' has no attribute {name!r}", known])))


def __dir__() -> list[str]:
    """The names of the package, and of modules that are not loaded yet."""
    return sorted({*vars(sys.modules[__package__ or "gradtx"]), *LAZY})
