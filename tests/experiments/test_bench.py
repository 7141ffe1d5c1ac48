"""The benches run, and report what the compiler says. How fast anything is, no test asserts."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import compilation
from experiments.bench import goals, minimize, program, sharded, timing, trees
from experiments.bench.command import bench
from experiments.bench.optimizers import OPTIMIZERS
from experiments.bench.timing import Ratio, Spread
from experiments.errors import ExperimentError


@pytest.fixture(autouse=True)
def as_users_run_it(monkeypatch):
    """JAX's own settings: optax and the plain models need its promotion. No cache that other tests would get."""
    monkeypatch.setattr(compilation, "keep_programs", lambda: None)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def run(name, tmp_path, capsys, rounds=2, **options):
    path = tmp_path / "made" / f"{name}.json"
    path.parent.mkdir()
    path.write_text("an earlier report")
    bench(name, json=path, smoke=True, rounds=rounds, **options)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 110
    assert "Goals" in shown
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["bench"] == name
    assert f"bench {name}" in report["environment"]["command"]
    assert {"jax_version", "optax_version", "gradtx_version", "device", "cores", "date"} <= set(report["environment"])
    return shown, report


def samples(spread):
    assert spread["lower_quartile"] <= spread["median"] <= spread["upper_quartile"]
    assert all(value > 0 for value in spread["samples"])
    return len(spread["samples"])


@pytest.mark.slow
def test_step_reports_every_row_from_the_compiled_program(tmp_path, capsys):
    optimizers = ("sgd", "adam")
    shown, report = run("step", tmp_path, capsys, tree=("leaf", "leaves"), optimizer=optimizers)
    assert [(row["tree"], row["optimizer"]) for row in report["rows"]] == [
        (tree, optimizer) for tree in ("leaf", "leaves") for optimizer in optimizers
    ]
    for row in report["rows"]:
        slots = OPTIMIZERS[row["optimizer"]].slots
        assert row["least_bytes"] == 4 * row["parameters"] * (3 + 2 * slots)
        assert samples(row["floor"]) == 2
        for library in ("gradtx", "optax"):
            cost = row[library]
            assert samples(cost["time"]) == samples(cost["making"]["total"]) * 2 == 2
            leaves = 1 if row["tree"] == "leaf" else 5
            assert cost["program"]["kernels"] >= leaves * (1 + slots)
            assert cost["program"]["bytes_accessed"] >= row["least_bytes"]
            assert cost["program"]["aliased_bytes"] >= 4 * row["parameters"] * (1 + slots)
            assert cost["state_bytes"] >= 4 * row["parameters"] * slots
    assert report["goals"][0]["claim"] == "adam: trace, against optax ≤ 0.4"
    assert all(optimizer in shown for optimizer in optimizers)


@pytest.mark.slow
def test_eager_reports_a_row_an_optimizer(tmp_path, capsys):
    _, report = run("eager", tmp_path, capsys, optimizer=("sgd", "adam"))
    names = ["sgd", "adam", "adam, scheduled"]
    rows = [(row["what"], row["leaves"], row["optimizer"]) for row in report["rows"]]
    assert rows == [(what, n, name) for what, n in (("update", 1), ("update", 3), ("trace", 1)) for name in names]
    assert all(samples(row[library]) == 2 for row in report["rows"] for library in ("gradtx", "optax"))
    assert len(report["goals"]) == 5


@pytest.mark.slow
def test_wrappers_reports_a_row_for_each_tree(tmp_path, capsys):
    shown, report = run("wrappers", tmp_path, capsys, only=("observe",))
    assert [(row["tree"], row["wrapper"]) for row in report["rows"]] == [("gpt2", "observe"), ("leaves", "observe")]
    for row in report["rows"]:
        assert samples(row["bare"]["time"]) == samples(row["gradtx"]["time"]) == 2
        assert row["gradtx"]["state_bytes"] > row["bare"]["state_bytes"]
        assert row["gradtx"]["program"]["kernels"] > row["bare"]["program"]["kernels"]
    assert "observe" in shown


def test_sharded_reports_an_eighth_of_the_state(tmp_path, capsys):
    shown, report = run("sharded", tmp_path, capsys)
    rows = {(row["mesh"], row["optimizer"]): row for row in report["rows"]}
    for mesh in ("automatic", "explicit"):
        whole, cut = rows[mesh, "adamw"], rows[mesh, "zero(adamw)"]
        # What is left beside an eighth are three counts.
        assert 8 * cut["state_bytes"] == pytest.approx(whole["state_bytes"], rel=1e-2)
        assert whole["argument_bytes"] - cut["argument_bytes"] == whole["state_bytes"] - cut["state_bytes"]
        assert set(whole["collectives"]) == {"all-reduce"}
        # Updates of all parameters are gathered, and nothing twice; CPUs get no reduce-scatter from this compiler.
        assert cut["collectives"]["all-gather"] == pytest.approx(whole["state_bytes"] / 2, rel=1e-2)
    assert "zero(int8 adamw)" in shown


def test_collectives_are_read_off_a_program():
    text = """
%all-reduce-scatter.4 (input: f32[64,8]) -> f32[8,8] {
  %all-reduce.1 = f32[64,8]{1,0:T(8,128)} all-reduce(%input), channel_id=1, to_apply=%add
}
%piece.1 (a: f32[8,8]) -> f32[64,8] {
  ROOT %all-gather.1 = f32[64,8]{1,0} all-gather(%a), channel_id=2, dimensions={0}
}
ENTRY %main (a: f32[8,8]) -> f32[64,8] {
  %all-gather.2 = f32[64,8]{1,0} all-gather(%a), channel_id=2, dimensions={0}
  %all-gather-start = (bf16[8]{0}, bf16[64]{0}) all-gather-start(%b), channel_id=3
  %reduce-scatter.1 = f32[8]{0} reduce-scatter(%c), channel_id=4
  %all-reduce.2 = (f32[16]{0}, f32[]) all-reduce(%d, %e), channel_id=5
}
"""
    assert sharded.collectives(text) == {
        "all-gather": 4 * 64 * 8 + 2 * 64,
        "all-reduce": 4 * 17,
        "reduce-scatter": 4 * 64 * 8 + 4 * 64,
    }


@pytest.mark.slow
def test_sweep_trains_the_same_losses_in_each_library(tmp_path, capsys):
    _, report = run("sweep", tmp_path, capsys, rounds=1)
    assert [row["problem"] for row in report["rows"]] == ["softmax", "mlp"]
    assert len(report["goals"]) == 2


@pytest.mark.slow
def test_train_reports_each_way_to_train(tmp_path, capsys):
    shown, report = run("train", tmp_path, capsys, rounds=1)
    for row in report["rows"]:
        assert {"gradtx scan", "gradtx loop", "optax scan", "optax loop"} <= set(row["times"])
    assert "steps a second" in shown


@pytest.mark.slow
def test_learned_reports_state_and_program(tmp_path, capsys):
    _, report = run("learned", tmp_path, capsys)
    assert [row["optimizer"] for row in report["rows"]] == ["lstm", "mlp", "adam"]
    for row, copies in zip(report["rows"], (80, 5, 2), strict=True):
        assert samples(row["time"]) == 2
        assert copies <= row["state_bytes"] / (4 * row["parameters"]) < copies + 0.1
        assert row["program"]["bytes_accessed"] > row["state_bytes"]
        assert row["program"]["aliased_bytes"] >= row["state_bytes"]
    assert report["goals"][1]["met"] == "yes"


@pytest.mark.slow
def test_minimize_counts_evaluations(tmp_path, capsys):
    shown, report = run("minimize", tmp_path, capsys, rounds=1)
    double, single, timed = report["rows"]
    assert set(double["found"]) == {"lbfgs", "scipy", "optax", "newton_cg", "trust-ncg"}
    assert set(single["found"]) == {"lbfgs", "scipy", "optax"}
    for row, tolerance in ((double, 1e-5), (single, 1e-4)):
        for found in row["found"].values():
            assert found["evaluations"] > 10
            assert found["steepest"] <= tolerance
            assert found["value"] < 1e-4
    assert set(timed["evaluations"]) == set(timed["times"]) == {"lbfgs", "scipy", "optax", "newton_cg"}
    assert timed["evaluations"]["lbfgs"] == double["found"]["lbfgs"]["evaluations"]
    (goal,) = report["goals"]
    assert goal["claim"] == "time against optax, costless objectives ≤ 1.3"
    assert "float32, optax" in shown


@pytest.mark.slow
def test_minimize_says_what_was_not_reached(tmp_path, capsys):
    """On Brown and Dennis's function L-BFGS-B stops at its rounding."""
    options = {"only": ("brown-dennis",), "method": ("scipy", "optax")}
    shown, report = run("minimize", tmp_path, capsys, **options)
    assert "--only brown-dennis --method scipy optax" in report["environment"]["command"]
    double, _ = report["rows"]
    assert double["found"]["scipy"]["steepest"] > 1e-5
    assert f"({double['found']['scipy']['evaluations']})" in shown
    assert report["goals"] == []


def test_an_unknown_problem_is_an_error_before_anything_runs(tmp_path):
    with pytest.raises(ExperimentError, match="unknown problem 'rosenbrok'; there are rosenbrock, freudenstein-roth"):
        bench("minimize", json=tmp_path / "x.json", only=("rosenbrok",))


def test_a_cell_says_what_was_not_reached():
    ends = {"at": (1e-5, 1e-3), "higher": (1e-5, 1.1e-3), "short": (1.1e-5, 0.0), "lost": (None, None)}
    row = minimize.Row("one", 2, "float64", {name: minimize.Found(1000, *end) for name, end in ends.items()})
    assert [minimize._cell(row, name, lowest=0.0) for name in ends] == ["1000", "1000↑", "(1000)", "(1000)"]


def found(**evaluations):
    """By method. Not solved where the count is negative."""
    return {name: minimize.Found(abs(count), 1.0 if count < 0 else 1e-6, 0.0) for name, count in evaluations.items()}


def test_means_are_over_what_both_solve():
    rows = [
        minimize.Row("one", 2, "float64", found(lbfgs=20, scipy=10, optax=40)),
        minimize.Row("two", 2, "float64", found(lbfgs=20, scipy=40, optax=40)),
        minimize.Row("three", 2, "float64", found(lbfgs=1000, scipy=-1, optax=1000)),
    ]
    by_claim = {goal.claim: goal for goal in minimize._goals(rows)}
    against_scipy = by_claim["evaluations, mean, against scipy ≤ 1"]
    assert against_scipy.measured.median == pytest.approx(1.0)  # of 2 and 1/2
    assert against_scipy.where == "one: 2.00"
    assert by_claim["evaluations, mean, against optax ≤ 0.9"].measured.median == pytest.approx(0.25 ** (1 / 3))
    solved = by_claim["float64: solved by lbfgs ≥ 58"]
    assert (solved.measured.median, solved.met) == (3, "no")


@pytest.mark.slow
def test_second_order_times_a_step_of_each_method(tmp_path, capsys):
    _, report = run("second-order", tmp_path, capsys)
    ours = ["lbfgs", "stochastic_lbfgs", "newton_cg", "gauss_newton_cg", "newton"]
    assert [row["method"] for row in report["rows"]] == ["a gradient", *ours, "optax.lbfgs"]
    assert all(samples(row["time"]) == 2 for row in report["rows"])
    gradient, *others = (row["program"]["kernels"] for row in report["rows"])
    assert all(kernels > gradient for kernels in others)


def test_no_rounds_is_an_error_before_anything_runs(tmp_path):
    with pytest.raises(ExperimentError, match="--rounds is 0: it takes at least 1"):
        bench("step", json=tmp_path / "x.json", rounds=0)


def test_an_unwritable_path_is_an_error_before_anything_runs(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExperimentError, match="cannot write"):
        bench("step", json=tmp_path / "file" / "x.json", smoke=True)


HLO = """HloModule jit_f, is_scheduled=true

%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %m = f32[4]{0} multiply(%p, %p)
}

%body (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %t = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %x = f32[4]{0} get-tuple-element(%t), index=1
  %y = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused
  %z = f32[4]{0} copy(%y)
  ROOT %r = (s32[], f32[4]{0}) tuple(%i, %z)
}

%condition (t: (s32[], f32[4])) -> pred[] {
  %t.1 = (s32[], f32[4]{0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%t.1), index=0
  %n = s32[] constant(3)
  ROOT %less = pred[] compare(%i.1, %n), direction=LT
}

ENTRY %main (a: (s32[], f32[4])) -> (s32[], /*index=1*/f32[4]) {
  %a = (s32[], f32[4]{0}) parameter(0)
  %loop = (s32[], /*index=1*/f32[4]{0}) while(%a), condition=%condition, body=%body
  %first = f32[4]{0} get-tuple-element(%loop), index=1
  %called = f32[4]{0} call(%first), to_apply=%fused
  ROOT %out = (f32[4]{0}, f32[4]{0}) tuple(%first, %called)
}
"""


def test_kernels_are_counted_through_loops_and_calls():
    assert program.count_kernels(HLO) == 2 + 1 + 1  # the body's fusion and copy, the condition, the called one


def test_kernels_of_a_compiled_program_are_known():
    compiled = jax.jit(lambda xs: [jnp.sin(x) * 2 for x in xs]).lower([jnp.ones(4)] * 3).compile()
    assert program.Program.of(compiled).kernels == 3


def test_text_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        program.count_kernels("HloModule nothing")


@pytest.mark.slow
def test_every_source_is_compiled_anew_each_round():
    traces = []

    def fresh():
        def f(x):
            traces.append(x)
            return x + 1

        return f

    source = program.Source(fresh, (jax.ShapeDtypeStruct((4,), jnp.float32),), donated=(0,))
    making, made = program.make({"f": source}, rounds=3)["f"]
    assert len(making.total.samples) == 3
    assert len(traces) == 4  # one more that is not counted
    assert made.aliased_bytes == 16
    np.testing.assert_allclose(
        making.total.samples, np.sum([making.trace.samples, making.lower.samples, making.compile.samples], 0)
    )


def test_rounds_alternate_in_order():
    assert "".join(timing.alternate(["a", "b", "c"], 3)) == "abccbaabc"


def test_a_ratio_is_taken_within_rounds():
    machine = [1.0, 10.0, 100.0, 1000.0]  # ever slower
    ratio = timing.paired(Spread.of([2 * t for t in machine]), Spread.of(machine))
    assert ratio == Ratio(2.0, 2.0, 2.0)


def test_interleaved_runs_are_given_steps_and_timed():
    calls = {"a": [], "b": []}
    runs = {name: calls[name].append for name in calls}
    spreads = timing.interleave(runs, rounds=4, block_seconds=0.0)
    assert {len(spread.samples) for spread in spreads.values()} == {4}
    assert calls["a"] == calls["b"] == [1] * (2 + 2 * 4)  # two to warm up, then two a round


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(Ratio(0.9, 0.8, 1.2), "yes"), (Ratio(1.1, 0.9, 1.2), "noise"), (Ratio(1.1, 1.05, 1.2), "no")],
)
def test_a_goal_is_missed_only_if_its_interval_is(ratio, verdict):
    inverse = Ratio(1 / ratio.median, 1 / ratio.high, 1 / ratio.low)
    assert goals.at_most("x", 1.0, {"row": ratio}).met == verdict
    assert goals.at_least("x", 1.0, {"row": inverse}).met == verdict


def test_a_goal_shows_its_worst_row():
    rows = {"good": Ratio.exact(0.5), "bad": Ratio(2.0, 1.5, 3.0), "noisy": Ratio(2.5, 0.5, 9.0)}
    assert goals.at_most("x", 1.0, rows).where == "bad"
    assert goals.at_least("x", 1.0, rows).where == "good"


def test_gpt2_small_has_its_published_size():
    shapes = trees.TREES["gpt2"]
    assert len(shapes) == 148
    assert trees.count(shapes) == 124_439_808
    assert math.isclose(trees.nbytes(trees.structs(shapes)), 4 * 124_439_808)


@pytest.mark.slow
def test_memory_counts_bytes_of_every_optimizer_in_every_precision(tmp_path, capsys):
    _, report = run("memory", tmp_path, capsys)
    held = {(row["optimizer"], row["precision"]): row for row in report["rows"]}
    assert held["adam", "float32"]["state_bytes"] == pytest.approx(8, abs=1e-3)
    assert held["adam", "int8"]["state_bytes"] < 2.2
    assert held["adam", "bfloat16"]["state_bytes"] == pytest.approx(4, abs=1e-3)
    assert held["sgd", "remainders"]["state_bytes"] == pytest.approx(2, abs=1e-3)
    assert held["adam", "int8"]["lean"]["aliased_bytes"] > 0
    assert held["lion", "int8"]["program"] is None


@pytest.mark.slow
def test_codec_compares_seed_by_seed(tmp_path, capsys):
    _, report = run("codec", tmp_path, capsys, only=("lenet",))
    rows = {(row["method"], row["seed"]): row for row in report["rows"]}
    assert set(rows) == {(method, seed) for method in ("float32", "int8") for seed in (0, 1)}
    for seed in (0, 1):
        exact, coded = (rows[method, seed]["train_loss"] for method in ("float32", "int8"))
        assert exact != coded
        np.testing.assert_allclose(coded, exact, rtol=0.02)


def test_codec_knows_its_networks(tmp_path):
    with pytest.raises(ExperimentError, match="unknown network 'vgg'"):
        bench("codec", json=tmp_path / "x.json", only=("vgg",))
