"""A training over all devices has one device's numbers, and goes on with another number of them after being killed."""

import dataclasses
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import comparison, data, data_parallel, sweep
from experiments.augment import CropAndFlip
from experiments.data import Examples
from experiments.errors import ExperimentError
from experiments.lanes import Mode
from experiments.methods import METHODS
from experiments.models import resnet_6n2
from experiments.progress import Progress
from experiments.sharded import ShardedCheckpoint
from experiments.store import opened
from experiments.study import Context
from experiments.sweep import Sweep
from experiments.train import Problem
from tests.experiments import driver
from tests.experiments.conftest import dataset, same
from tests.experiments.processes import RUN, Place, finish
from tests.experiments.test_distributed import free_port

RTOL, ATOL = 1e-4, 1e-5
"""Sums of float32 in another order; measured: 1e-7 on softmax regression, 1e-5 on the network."""


class Killed(Exception):
    pass


def over(devices: int, problem: Problem, mode: Mode = "shard", **changes) -> Sweep:
    data = dataset()
    return Sweep(
        problem, METHODS[1], [0.01, 0.1], [0, 1], 3, mode, test=data.test, tested_at=(1, 3),
        devices=jax.devices()[:devices], **changes,
    )  # fmt: skip


def alike(a: xr.Dataset, b: xr.Dataset) -> None:
    assert a.keys() == b.keys()
    for name in a.data_vars:
        np.testing.assert_allclose(a[name].astype(float), b[name].astype(float), RTOL, ATOL, err_msg=str(name))


@pytest.fixture(scope="module")
def uninterrupted(tiny) -> xr.Dataset:
    return data_parallel.run(over(8, tiny))


@pytest.mark.slow
def test_any_number_of_devices_finds_what_lanes_find(tiny, uninterrupted):
    alike(data_parallel.run(over(2, tiny)), uninterrupted)
    alike(sweep.run(over(1, tiny, mode="map")), uninterrupted)


@pytest.mark.slow
def test_goes_on_with_half_the_devices(tiny, uninterrupted, tmp_path, monkeypatch):
    monkeypatch.setattr(data_parallel, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    checkpoint, calls = ShardedCheckpoint(tmp_path / "part", print), []

    def kill(epochs: float) -> None:
        calls.append(epochs)
        if len(calls) == 5:
            raise Killed

    with pytest.raises(Killed):
        data_parallel.run(over(8, tiny), checkpoint, kill)
    assert checkpoint.done() == (5, 12)
    assert sorted(path.name for path in (tmp_path / "part").iterdir()) == ["5-of-12", "5-of-12.seal"]
    calls.clear()
    alike(data_parallel.run(over(4, tiny), checkpoint, lambda epochs: calls.append(epochs)), uninterrupted)
    assert calls == [5 / 4, *[1 / 4] * 7]


@pytest.mark.slow
def test_statistics_of_normalisation_are_those_of_the_whole_batch():
    rng = np.random.RandomState(0)
    images, labels = rng.normal(size=(32, 8, 8, 3)), rng.randint(10, size=32)
    examples = Examples(jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32))
    problem = Problem(resnet_6n2(8, 2), 16, examples, examples, CropAndFlip(1))
    one, many = (
        data_parallel.run(Sweep(problem, METHODS[1], [0.05], [0], 2, "shard", devices=jax.devices()[:count]))
        for count in (1, 8)
    )
    alike(one, many)


def test_each_device_has_its_share(tiny):
    """The program of eight devices does an eighth of the multiplications, on each."""
    mesh = data_parallel.over(jax.devices(), 48)
    deal = data_parallel.Deal(mesh)
    assert deal(tiny.train).images.sharding.shard_shape((48, 2, 2, 1)) == (6, 2, 2, 1)
    odd = Examples(tiny.train.images[:9], tiny.train.labels[:9])
    assert deal(odd) is odd


def test_a_batch_that_cannot_be_dealt_out(tiny):
    with pytest.raises(ExperimentError, match="a batch of 8 cannot be dealt out over 3 devices"):
        data_parallel.run(over(3, tiny))


def test_a_diverged_lane_is_no_hindrance(tiny):
    found = data_parallel.run(dataclasses.replace(over(8, tiny), rates=[3e38, 0.1], method=METHODS[0]))
    assert found.diverged.values.tolist() == [[True, False], [True, False]]


class TestCheckpoint:
    """What is on disk, by itself."""

    @staticmethod
    def tree(devices: int):
        mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:devices]), ("x",))

        def put(values, *axes):
            return jax.device_put(values, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)))

        return {
            "dealt": put(jnp.arange(16.0), "x"), "whole": put(jnp.asarray(3)), "host": np.arange(3),
            "none": put(jnp.zeros((0, 2))), "half": put(jnp.ones(3, jnp.bfloat16)),
        }  # fmt: skip

    def test_shards_come_back_over_other_devices(self, tmp_path):
        checkpoint = ShardedCheckpoint(tmp_path / "part", print)
        assert checkpoint.load(self.tree(8)) is None
        assert checkpoint.done() == (0, 0)
        checkpoint.save(self.tree(8), 3, 9)
        checkpoint.save(self.tree(8), 4, 9)
        loaded = checkpoint.load(jax.tree.map(lambda leaf: leaf * 0, self.tree(4)))
        assert loaded is not None
        same(loaded[0], self.tree(4))
        assert loaded[1] == 4
        assert len(loaded[0]["dealt"].sharding.device_set) == 4
        assert isinstance(loaded[0]["host"], np.ndarray)
        checkpoint.remove()
        assert not (tmp_path / "part").exists()
        checkpoint.remove()

    @pytest.mark.parametrize("harm", ["other shapes", "a byte", "a file", "the seal"])
    def test_what_cannot_be_used_is_set_aside(self, tmp_path, harm):
        said = []
        checkpoint = ShardedCheckpoint(tmp_path / "part", said.append)
        checkpoint.save(self.tree(8), 3, 9)
        like = self.tree(8)
        largest = max((tmp_path / "part").rglob("d/*"), key=lambda path: path.stat().st_size)
        if harm == "other shapes":
            like["dealt"] = jnp.zeros(5)
        elif harm == "a byte":
            content = bytearray(largest.read_bytes())
            content[len(content) // 2] ^= 1
            largest.write_bytes(content)
        elif harm == "a file":
            largest.unlink()
        else:
            (tmp_path / "part" / "3-of-9.seal").write_bytes(b"")
        assert checkpoint.load(like) is None
        assert "its part begins again" in said[0]
        why = "other" if harm == "other shapes" else "damaged"
        assert [path.name for path in tmp_path.iterdir()] == [f"part.{why}-1"]
        assert checkpoint.done() == (0, 0)


def test_one_without_a_seal_was_not_written_to_the_end(tmp_path):
    checkpoint = ShardedCheckpoint(tmp_path / "part", print)
    checkpoint.save(TestCheckpoint.tree(8), 3, 9)
    half = tmp_path / "part" / "4-of-9"
    half.mkdir()
    assert checkpoint.done() == (3, 9)
    loaded = checkpoint.load(TestCheckpoint.tree(8))
    assert loaded is not None
    assert loaded[1] == 3
    checkpoint.save(TestCheckpoint.tree(8), 4, 9)
    assert checkpoint.done() == (4, 9)


@pytest.mark.slow
def test_two_processes_are_killed_and_one_goes_on(tmp_path, cache):
    """Two processes of four devices each are killed by SIGKILL; one with four devices ends what they began."""
    place = Place(tmp_path, cache)
    where = ["--coordinator", f"localhost:{free_port()}", "--processes", "2"]
    both = [place.start([*RUN, *where, "--process-id", str(i)], SHARD="1", JAX_NUM_CPU_DEVICES="4") for i in (0, 1)]
    while place.calls < 2 * 6 and both[0].poll() is None:  # 6 of the 16 epochs, in the first seed's training
        time.sleep(0.002)
    for process in both:
        process.kill()
    assert [finish(process)[0] for process in both] == [-signal.SIGKILL] * 2
    before = place.calls
    code, out, error = finish(place.start(SHARD="1", JAX_NUM_CPU_DEVICES="4"))
    assert (code, error) == (0, "")
    assert "each over 4 devices with 10 examples of a batch each" in out

    tier = driver.OVER_ALL
    with opened(tmp_path / "alone", "alone", print) as store:
        expected = comparison.compare(tier, Context(store, Progress(), data.load("digits"), lambda line: None))
    alike(place.read(), expected.drop_vars(["seconds", "epoch_seconds"]).drop_attrs())
    total = sum(comparison.expected(tier).values())
    print(f"{before // 2} epochs before, {place.calls - before} after, of at least {total:g}")
    assert place.calls - before < total
