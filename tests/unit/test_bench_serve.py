"""What `make bench-serve` makes of its figures, and how it takes them."""

import pytest

from benchmarks import serve
from benchmarks.serve_load import Load, measure
from benchmarks.serve_tables import summarise, table
from tests.platforms import open_platform
from tests.whole_endpoint import MODEL, whole_endpoint

LOAD = "8 clients, streamed"


def run(side, number, speed, first):
    return {"side": side, "load": LOAD, "round": number, "tokens_per_second": speed, "first_token": first}


RUNS = [
    run("vllm", 0, 100.0, [0.1, 0.2, 0.3]),
    run("autoalign", 0, 99.0, [0.104, 0.203, 0.32]),
    run("vllm", 1, 200.0, [0.1, 0.2, 0.3]),
    run("autoalign", 1, 190.0, [0.104, 0.203, 0.32]),
    run("vllm", 2, 50.0, [0.1, 0.2, 0.3]),
    run("autoalign", 2, 49.0, [0.104, 0.203, 0.32]),
]


def test_ratios_are_taken_round_by_round():
    bare, ours = summarise(RUNS)
    assert (bare["side"], ours["side"]) == ("vllm", "autoalign")
    # 0.99, 0.95 and 0.98, whatever the rounds' own speeds
    assert (ours["speed"], ours["speed_least"], ours["speed_most"]) == pytest.approx((0.98, 0.95, 0.99))
    assert (ours["tokens_per_second"], bare["tokens_per_second"]) == (99.0, 100.0)
    assert (ours["median_ms"], ours["p99_ms"]) == pytest.approx((3.0, 20.0))


def test_the_table_says_what_is_met():
    line = table(summarise(RUNS)).splitlines()[-1]
    assert line == (
        "| 8 clients, streamed | autoalign | 99 | 0.98 x (0.95 to 0.99) met "
        "| 203 ms, +3 ms met | 320 ms, +20 ms **missed** |"
    )


def test_p99_is_the_value_that_one_in_a_hundred_lies_above():
    (row,) = summarise([run("vllm", 0, 1.0, [number / 1000 for number in range(1000)])])
    assert row["first_p99"] == 0.99


@pytest.mark.parametrize("streamed", [True, False])
def test_a_burst_is_counted_in_the_engines_tokens(tmp_path, streamed):
    platform = open_platform(tmp_path)
    with whole_endpoint(platform, closed=False) as url:
        figures = measure(url, MODEL, ["a", "b"], Load(3, streamed, 7, 5))
        with pytest.raises(SystemExit, match="HTTP 404"):
            measure(url, "nobody", ["a"], Load(1, streamed, 1, 5))
    assert len(figures["first_token"]) == 7
    assert figures["tokens_per_second"] == pytest.approx(35 / figures["seconds"])
    assert 0 < min(figures["first_token"]) <= max(figures["first_token"]) < figures["seconds"]


def test_the_whole_table_fits_into_its_minutes(monkeypatch):
    """Rounds of 200 s, started within 15 minutes: the fourth ends at 800 s, a fifth would end at 1,000."""
    now = [0.0]
    monkeypatch.setattr(serve.time, "monotonic", lambda: now[0])

    def measured(url, model, prompts, load):
        now[0] += 200 / 6
        return {"tokens_per_second": 1.0, "seconds": 1.0, "first_token": [1.0]}

    class Side:
        def __init__(self, name, model, root, log):
            self.name, self.url = name, ""

        def wait_ready(self):
            pass

        def stop(self):
            pass

    monkeypatch.setattr(serve, "measure", measured)
    monkeypatch.setattr(serve, "Side", Side)
    options = serve._parser().parse_args(["--sides", "vllm"])
    runs = serve._measure(options, "models/m", ["a"], 60 * options.minutes)
    assert max(each["round"] for each in runs) == 3
    assert len(runs) == 4 * 3 * 2
