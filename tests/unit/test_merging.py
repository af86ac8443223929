"""Merging methods against arithmetic written out here, on vectors short enough to follow by eye."""

from __future__ import annotations

import math

import pytest
import torch

from autoalign.errors import ConfigError, UnknownName
from autoalign.merging.methods import build, names
from autoalign.merging.methods._magnitude import kth_largest
from autoalign.merging.stack import Stack

LONG = 150_000  # elements: more than two of DARE's cells


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def merged(method, models, base=None, weights=None, cut=None, name="w"):
    """The method over the whole tensor, or over stretches of `cut` elements."""
    size = models[0].numel()
    step = cut or size

    def stretches():
        for start in range(0, size, step):
            parts = [tensor[start : start + step] for tensor in models]
            below = None if base is None else base[start : start + step]
            yield Stack(name, start, size, tuple(parts), tuple(weights or [1.0] * len(models)), below)

    return torch.cat(list(method.merge(stretches)))


def assert_is(tensor, *values):
    assert tensor.tolist() == pytest.approx(values, abs=1e-12)


def test_every_method_has_its_file():
    assert names() == [
        "average",
        "dare_linear",
        "dare_ties",
        "lora",
        "slerp",
        "task_arithmetic",
        "ties",
        "weighted",
    ]


def test_an_unknown_method_answers_with_those_there_are():
    with pytest.raises(UnknownName, match=r"did you mean 'slerp'.*average"):
        build("slrp")


def test_an_option_of_another_method_is_refused():
    with pytest.raises(ConfigError, match="density is no option of method average; there are: none"):
        build("average", density=0.5)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("ties", "density", 0.0),
        ("dare_linear", "density", 1.5),
        ("slerp", "t", 2.0),
        ("ties", "scale", math.inf),
    ],
)
def test_an_impossible_value_is_refused(name, option, value):
    with pytest.raises(ConfigError, match=f"{option} is {value}"):
        build(name, **{option: value})


def test_average():
    assert_is(merged(build("average"), [vector(1, 2), vector(3, -4), vector(5, 8)]), 3, 2)


def test_weighted_divides_by_the_sum_of_the_weights():
    # (3 * 1 + 1 * 5) / 4 and (3 * 2 + 1 * -2) / 4
    assert_is(merged(build("weighted"), [vector(1, 2), vector(5, -2)], weights=[3.0, 1.0]), 2, 1)


def test_weighted_without_normalising_is_the_sum():
    method = build("weighted", normalize=False)
    assert_is(merged(method, [vector(1, 2), vector(5, -2)], weights=[3.0, 1.0]), 8, 4)


def test_weights_that_cancel_are_refused():
    with pytest.raises(ConfigError, match="add up to 0"):
        merged(build("weighted"), [vector(1), vector(5)], weights=[1.0, -1.0])


def test_slerp_halves_a_right_angle():
    # sin 45 / sin 90 = 1 / sqrt 2 of each
    half = 1 / math.sqrt(2)
    assert_is(merged(build("slerp"), [vector(2, 0), vector(0, 4)]), 2 * half, 4 * half)


def test_slerp_at_a_third_of_sixty_degrees():
    # a at 0 and b at 60 degrees, both of length 1: a third of the way is 20 degrees.
    a, b = vector(1, 0), vector(0.5, math.sqrt(3) / 2)
    turned = math.radians(20)
    assert_is(merged(build("slerp", t=1 / 3), [a, b]), math.cos(turned), math.sin(turned))


@pytest.mark.parametrize(("t", "expected"), [(0.0, [3.0, 1.0]), (1.0, [-2.0, 5.0])])
def test_slerp_ends_at_the_models(t, expected):
    assert_is(merged(build("slerp", t=t), [vector(3, 1), vector(-2, 5)]), *expected)


@pytest.mark.parametrize(
    "second", [(2.0, 4.0), (-1.0, -2.0), (0.0, 0.0)], ids=["parallel", "opposite", "zero"]
)
def test_slerp_is_linear_where_no_arc_is_defined(second):
    expected = [0.75 * 1 + 0.25 * second[0], 0.75 * 2 + 0.25 * second[1]]
    assert_is(merged(build("slerp", t=0.25), [vector(1, 2), vector(*second)]), *expected)


def test_task_arithmetic_adds_scaled_task_vectors():
    # base 1, task vectors +2 and -1 with weights 1 and 3: 1 + 0.5 * (2 - 3)
    method = build("task_arithmetic", scale=0.5)
    assert_is(merged(method, [vector(3), vector(0)], base=vector(1), weights=[1.0, 3.0]), 0.5)


def test_task_arithmetic_takes_a_task_away():
    assert_is(merged(build("task_arithmetic"), [vector(3)], base=vector(1), weights=[-1.0]), -1)


def test_ties_trims_elects_and_averages_what_agrees():
    base = vector(10, 10, 10, 10, 10)
    # Task vectors; density 0.6 keeps the three largest of five.
    first = vector(4, -3, 2, 1, 0.5)  # kept: 4, -3, 2
    second = vector(2, 5, -1, 0.1, 3)  # kept: 2, 5, 3
    # Sums 6, 2, 2, 0, 3 elect +, +, +, none, +.  Those that agree: {4, 2}, {5}, {2}, {}, {3}.
    method = build("ties", density=0.6)
    assert_is(merged(method, [base + first, base + second], base=base), 13, 15, 12, 10, 13)


def test_ties_weighs_the_election_and_the_mean():
    # Sums 1*4 + 3*2 = 10 and 1*6 - 3*1 = 3; means (4 + 3*2) / 4 and 6 alone; lambda 2.
    method = build("ties", density=1.0, scale=2.0)
    models = [vector(4, 6), vector(2, -1)]
    assert_is(merged(method, models, base=vector(0, 0), weights=[1.0, 3.0]), 5, 12)


def test_ties_keeps_equal_magnitudes_together():
    # The second largest magnitude is 2; both elements that have it stay.
    assert_is(merged(build("ties", density=0.5), [vector(2, -3, -2, 1)], base=torch.zeros(4)), 2, -3, -2, 0)


def test_ties_of_the_base_with_itself_is_the_base():
    base = vector(0.1, -7, 3)
    assert torch.equal(merged(build("ties"), [base, base], base=base), base)


@pytest.mark.parametrize("k", [1, 2, 777, 50_000, 100_000])
def test_the_kth_largest_magnitude_is_what_sorting_finds(k):
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(k)).double()
    halves = lambda: ([values[:30_000]], [values[30_000:]])  # noqa: E731
    assert kth_largest(halves, k) == [values.float().abs().sort(descending=True).values[k - 1].item()]


def test_dare_keeps_or_drops_each_element_and_rescales_it():
    base, delta = torch.full((LONG,), 3.0).double(), 2.0
    result = merged(build("dare_linear", density=0.25), [base + delta], base=base)
    assert set(result.unique().tolist()) == {3.0, 3.0 + 2.0 / 0.25}


def test_dare_keeps_the_task_vectors_expectation():
    base, density = torch.zeros(LONG).double(), 0.3
    result = merged(build("dare_linear", density=density), [base + 1], base=base)
    # The mean of n elements 0 or 1/p has the standard deviation sqrt((1-p) / (p n)).
    spread = math.sqrt((1 - density) / (density * LONG))
    assert abs(result.mean().item() - 1) < 5 * spread


def test_dare_keeping_all_is_task_arithmetic():
    models, base = [vector(1, 2), vector(4, -2)], vector(1, 1)
    expected = merged(build("task_arithmetic"), models, base=base)
    assert torch.equal(merged(build("dare_linear", density=1.0), models, base=base), expected)


def test_dare_follows_from_the_seed_and_the_tensors_name():
    models, base = [torch.ones(1000).double()], torch.zeros(1000).double()

    def dare(seed, name):
        return merged(build("dare_linear", seed=seed), models, base=base, name=name)

    assert torch.equal(dare(1, "a"), dare(1, "a"))
    assert not torch.equal(dare(1, "a"), dare(2, "a"))
    assert not torch.equal(dare(1, "a"), dare(1, "b"))


def test_dare_drops_from_each_model_by_itself():
    models, base = [torch.ones(1000).double()] * 2, torch.zeros(1000).double()
    # Kept in neither, in one, in both.
    assert set(merged(build("dare_linear"), models, base=base).unique().tolist()) == {0.0, 2.0, 4.0}


def test_dare_ties_averages_what_agrees():
    # Everything is kept: 4 and 2 agree on +, of 5 and -6 the negative wins.
    method = build("dare_ties", density=1.0)
    assert_is(merged(method, [vector(4, 5), vector(2, -6)], base=vector(0, 0)), 3, -6)


def test_lora_adds_each_adapters_update():
    # base 1, merged adapters 3 and 0: 1 + 0.5 * 2 + 2 * -1
    assert_is(merged(build("lora"), [vector(3), vector(0)], base=vector(1), weights=[0.5, 2.0]), 0)


@pytest.mark.parametrize("name", names())
def test_stretches_give_what_the_whole_tensor_gives(name):
    generator = torch.Generator().manual_seed(3)
    base, *models = [torch.randn(LONG, generator=generator).double() for _ in range(3)]
    whole, cut = (merged(build(name), models, base=base, cut=cut).float() for cut in (None, 25_003))
    assert torch.equal(whole, cut)


@pytest.mark.parametrize("name", ["average", "weighted", "slerp"])
def test_a_model_merged_with_itself_stays_to_the_bit(name):
    model = torch.randn(10_000, generator=torch.Generator().manual_seed(5))
    weights = [0.3, 0.6] if name == "weighted" else None
    assert torch.equal(merged(build(name), [model.double()] * 2, weights=weights).float(), model)


def test_weights_are_for_methods_that_take_them():
    with pytest.raises(ConfigError, match="method slerp takes no weights"):
        build("slerp").check((0.5, None))
    with pytest.raises(ConfigError, match="merges exactly 2 models, found 3"):
        build("slerp").check((None, None, None))
    with pytest.raises(ConfigError, match="weights above 0, found -1"):
        build("ties").check((1.0, -1.0))
