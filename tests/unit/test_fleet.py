"""Engines started when asked for, replaced without a gap, and put away when unused."""

import asyncio
import json

import pytest

from autoalign.config.serve import ServeConfig
from autoalign.errors import JobFailed
from autoalign.serving.catalogue import Catalogue
from autoalign.serving.fleet import Fleet, NoRoom
from autoalign.serving.placement import Placement, Refusal
from autoalign.serving.registry import RegistryUnavailable


class Launcher:
    """Engines that start when `gate` is open; those of a name in `broken` never do."""

    def __init__(self, gpus=9):
        self.running, self.log, self.broken, self.gpus = set(), [], set(), gpus
        self.gate = asyncio.Event()
        self.gate.set()

    async def start(self, spec):
        self.log.append(f"start {spec.model}")
        await self.gate.wait()
        if spec.model in self.broken:
            raise JobFailed("out of memory at /secret/path")
        if len(self.running) >= self.gpus:
            raise NoRoom("1 GPU needed, 0 free of 1")
        self.running.add(spec.app_name)

    async def stop(self, app_name):
        self.log.append("stop")
        self.running.discard(app_name)

    async def present(self):
        return set(self.running)

    async def missing(self, spec):
        return None if len(self.running) < self.gpus else "a GPU"

    async def is_ending(self):
        return False


def write(root, name, weight="w"):
    (root / name).mkdir(exist_ok=True)
    for file in ("config.json", "tokenizer.json"):
        (root / name / file).write_text("{}")
    (root / name / "model.safetensors").write_text(weight)


@pytest.fixture
def root(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path, name)
    return tmp_path


def fleet(root, launcher, registry=None, **values):
    config = ServeConfig.build({"model_roots": [str(root)], "max_loaded_models": 2, **values})
    catalogue = Catalogue([root], None, registry, [root])
    return Fleet(config, catalogue, launcher, use_gpu=False, linger=0, adopt=0.01)


def run(test):
    asyncio.run(test())


def test_requests_for_one_model_share_one_start(root):
    async def test():
        launcher = Launcher()
        placed = await asyncio.gather(*(fleet_of.place("a") for fleet_of in [fleet(root, launcher)] * 5))
        assert launcher.log == ["start a"]
        assert {each.app_name for each in placed} == launcher.running

    run(test)


def test_five_first_requests_at_once_never_load_more_than_may_be_loaded(root):
    write(root, "d")
    write(root, "e")

    class Counting(Launcher):
        most = coming = 0

        async def start(self, spec):
            self.coming += 1
            self.most = max(self.most, self.coming + len(self.running))
            await asyncio.sleep(0)
            await super().start(spec)
            self.coming -= 1

    async def test():
        launcher = Counting()
        engines = fleet(root, launcher)
        await asyncio.gather(*(engines.place(name) for name in "abcde"))
        assert sorted(line for line in launcher.log if line != "stop") == [
            f"start {name}" for name in "abcde"
        ]
        assert (launcher.most, len(launcher.running)) == (2, 2)

    run(test)


def test_on_one_gpu_the_model_that_holds_it_makes_room_for_another(root):
    async def test():
        launcher = Launcher(gpus=1)
        engines = fleet(root, launcher)  # two models may be loaded, one fits
        await engines.place("a")
        assert isinstance(await engines.place("b"), Placement)
        assert launcher.log == ["start a", "stop", "start b"]

    run(test)


def test_on_one_gpu_a_changed_folder_takes_the_place_of_its_old_engine(root):
    async def test():
        launcher = Launcher(gpus=1)
        engines = fleet(root, launcher, max_loaded_models=1)
        old = await engines.place("a")
        write(root, "a", "new weights")
        new = await engines.place("a")
        while new == old:
            await asyncio.sleep(0)
            new = await engines.place("a")
        assert (launcher.log, launcher.running) == (["start a", "stop", "start a"], {new.app_name})

    run(test)


def test_where_nothing_can_be_put_away_the_answer_names_what_is_missing(root):
    async def test():
        refusal = await fleet(root, Launcher(gpus=0)).place("a")
        assert (refusal.status, refusal.message, refusal.retry_after) == (
            503,
            "1 GPU needed, 0 free of 1",
            30,
        )

    run(test)


def test_engines_of_an_earlier_fleet_go_on_where_they_are_asked_for_and_end_where_not(root):
    async def test():
        launcher = Launcher()
        first = fleet(root, launcher)
        kept = await first.place("a")
        await first.place("b")
        later = fleet(root, launcher)
        await later.take_over()
        assert await later.place("a") == kept
        while len(launcher.running) > 1:
            await asyncio.sleep(0.001)
        assert launcher.running == {kept.app_name}

    run(test)


def test_an_engine_of_an_earlier_fleet_ends_at_once_where_its_room_is_needed(root):
    async def test():
        launcher = Launcher(gpus=1)
        await fleet(root, launcher, max_in_flight=1).place("a")
        later = fleet(root, launcher)  # another setting, so another engine
        await later.take_over()
        assert (await later.place("a")).app_name in launcher.running
        assert launcher.log == ["start a", "stop", "start a"]

    run(test)


class Registry:
    """`folders`: what names were promoted to."""

    def __init__(self):
        self.folders, self.is_away = {}, False

    def served(self):
        if self.is_away:
            raise RegistryUnavailable("the database does not answer")
        return self.folders

    def find(self, name, principal=None):
        return self.served().get(name)


def test_a_promotion_onto_a_running_models_name_is_rolled_in_and_back(root):
    async def test():
        launcher, registry = Launcher(), Registry()
        engines = fleet(root, launcher, registry)
        own = (await engines.place("a")).app_name
        registry.folders["a"] = root / "b"
        while (await engines.place("a")).app_name == own:
            await asyncio.sleep(0)
        assert launcher.log.count("start a") == 2
        registry.folders.clear()
        while (await engines.place("a")).app_name != own:
            await asyncio.sleep(0)
        assert launcher.log.count("start a") == 3

    run(test)


def test_while_the_database_is_away_what_is_loaded_goes_on_answering(root):
    async def test():
        registry = Registry()
        engines = fleet(root, Launcher(), registry)
        known = await engines.place("a")
        registry.is_away = True
        assert await engines.place("a") == known
        refusal = await engines.place("b")
        assert (refusal.status, refusal.retry_after) == (503, 5)

    run(test)


def test_an_unknown_model_is_404_and_starts_nothing(root):
    async def test():
        launcher = Launcher()
        refusal = await fleet(root, launcher).place("nobody")
        assert (refusal.status, refusal.code, launcher.log) == (404, "model_not_found", [])

    run(test)


def test_the_model_longest_unused_makes_room(root):
    async def test():
        launcher = Launcher()
        engines = fleet(root, launcher)
        for name in ("a", "b", "a", "c"):
            await engines.place(name)
        assert launcher.log == ["start a", "start b", "stop", "start c"]
        assert isinstance(await engines.place("a"), Placement)
        assert len(launcher.log) == 4  # b was put away, a is still there

    run(test)


def test_a_changed_folder_is_answered_by_the_old_engine_until_the_new_one_runs(root):
    async def test():
        launcher = Launcher()
        engines = fleet(root, launcher)
        old = await engines.place("a")
        launcher.gate.clear()
        write(root, "a", "new weights")
        assert await engines.place("a") == old
        launcher.gate.set()
        while len(launcher.running) < 2 and "stop" not in launcher.log:
            await asyncio.sleep(0)
        new = await engines.place("a")
        assert new != old and new.app_name in launcher.running
        while old.app_name in launcher.running:
            await asyncio.sleep(0)

    run(test)


def test_a_new_state_that_fails_leaves_the_old_engine_in_place(root):
    async def test():
        launcher = Launcher()
        engines = fleet(root, launcher)
        old = await engines.place("a")
        launcher.broken.add("a")
        write(root, "a", "broken weights")
        for _ in range(20):
            assert await engines.place("a") == old
        assert launcher.log == ["start a", "start a"]  # and it is not tried again and again

    run(test)


def test_a_model_that_cannot_be_loaded_is_503_without_the_servers_secrets(root):
    async def test():
        launcher = Launcher()
        launcher.broken.add("a")
        refusal = await fleet(root, launcher).place("a")
        assert isinstance(refusal, Refusal) and refusal.status == 503
        assert "/secret" not in refusal.message

    run(test)


def test_a_load_that_takes_too_long_goes_on_behind_the_answer(root):
    async def test():
        launcher = Launcher()
        launcher.gate.clear()
        engines = fleet(root, launcher, load_timeout=0.001)
        assert (await engines.place("a")).retry_after == 10
        launcher.gate.set()
        while not launcher.running:
            await asyncio.sleep(0)
        assert isinstance(await engines.place("a"), Placement)

    run(test)


def test_an_adapter_is_answered_by_its_bases_engine(root):
    async def test():
        folder = root / "tuned"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(root / "a")}))
        launcher = Launcher()
        engines = fleet(root, launcher)
        tuned, base = await engines.place("tuned"), await engines.place("a")
        assert (tuned.app_name, tuned.adapter.id, tuned.adapter.folder) == (
            base.app_name,
            "tuned",
            str(folder),
        )
        assert launcher.log == ["start a"]
        (folder / "adapter_model.safetensors").write_text("new weights")
        assert (await engines.place("tuned")).adapter.digest != tuned.adapter.digest

    run(test)
