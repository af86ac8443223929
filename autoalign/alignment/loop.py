"""Rounds of sample, judge, build data, train, evaluate, promote: each a stage."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.alignment import evaluation, guards, judge_files, prompts
from autoalign.alignment.carrying import Kind, carried
from autoalign.alignment.data import DATA, TEXTS, DataTask
from autoalign.alignment.ledger import Ledger, Round
from autoalign.alignment.machinery import Machinery
from autoalign.alignment.promotion import decide
from autoalign.alignment.prompts import PromptSets
from autoalign.alignment.stages import Done, Stage, StageStore
from autoalign.config.align import AlignConfig
from autoalign.errors import ConfigError, JobFailed

MODEL, PROMOTED = "model", "promoted"
_HELD_OUT_JUDGE = "held_out_judge"
# What a text or a model does not depend on: how many do the work.
_FREE = {"num_replicas", "cpus_per_replica", "ray_address", "concurrency"}
_FREE |= {"output_file", "method", "model_path", "model_name"}
# Figures of the data stage that are a round's guards, and their names among them.
_OF_DATA = {
    "contaminated": "contaminated",
    "data_judge_first": "judge_first",
    "chosen_longer": "chosen_longer",
}
_FREE_TRAINING = {"model_name_or_path", "data_path", "output_dir", "num_workers", "launcher", "cache_dir"}

Steps = Generator[tuple[str, Stage], Done | None, None]
"""A round's stages, each with what it is for ("data", "train"); sent back is its output, or None."""


class Loop:
    """A job at work.

    Attributes:
        ledger: what happened so far.
    """

    def __init__(
        self, config: AlignConfig, sets: PromptSets, machinery: Machinery, store: StageStore, first: str
    ) -> None:
        self._config, self._sets, self._machinery, self._store = config, sets, machinery, store
        self._first, self._policy = first, first
        self._trained: dict[str, str] = {}
        self._data: list[tuple[Kind, Done]] = []
        self.ledger = Ledger(store.root.parent, config.algorithm, first, first)

    def run(self) -> Ledger:
        """All rounds, or those up to the one that is not promoted."""
        self.ledger.write()
        try:
            for entry in self.rounds():
                self.ledger.rounds.append(entry)
                follow(self.steps(entry), partial(self._stage, entry))
                if entry.promoted:
                    self._link_policy()
                self.ledger.write()
        finally:
            self._machinery.sample.release()
        if self._policy == self._first:
            self._link.unlink(missing_ok=True)  # what an earlier config promoted
        self.ledger.finished = True
        self.ledger.write()
        return self.ledger

    def rounds(self) -> Iterator[Round]:
        """The rounds, up to one that is not promoted; each is to be decided before the next is taken."""
        for number in range(1, self._config.rounds + 1):
            entry = Round(number, self._config.built(number).trains)
            yield entry
            if entry.promoted is False and self._config.on_worse == "stop":
                return

    def steps(self, entry: Round) -> Steps:
        """The round's stages in their order; those are left out that need an output which is not there.

        With every output the round is decided: `entry` says how, and the policy moves where it is promoted.
        A plan goes through them on a shallow copy of the loop, so what they keep is replaced, never changed.
        """
        built = self._config.built(entry.number)
        data = yield "data", self.data_stage(entry.number)
        answers: dict[str, Done | None] = {}
        if built.trains == "policy":
            # The policy's engines are still up: what they answer comes before the training.
            answers["policy"] = yield "answers_policy", self.answers_stage(self._policy)
            answers["first"] = yield "answers_first", self.answers_stage(self._first)
        if data is None:
            return
        start = self._first if built.starts_from == "base" else self._policy
        train = yield "train", self.train_stage(entry.number, data, start)
        if train is None:
            return
        self._data = [*self._data, (Kind.of(built), data)]
        model = str(train.folder / MODEL)
        if built.trains != "policy":
            self._trained = {**self._trained, built.trains: model}
            entry.reason = f"it takes the role '{built.trains}'; the policy stays"
            return
        answers["new"] = yield "answers_new", self.answers_stage(model)
        known = {name: done for name, done in answers.items() if done is not None}
        if len(known) < len(answers):
            return
        done = yield "evaluation", self.evaluation_stage(known, data)
        if done is None:
            return
        decision = decide(self._config, done.figures, entry.number)
        entry.promoted, entry.reason = decision
        entry.warnings = guards.warnings(dict(done.figures))
        if decision.promoted:
            self._policy = model

    def finished(self) -> list[Done]:
        """The stages on disk, of this config or of earlier ones."""
        return self._store.all()

    def found(self, stage: Stage) -> Done | None:
        """The output of a stage that would be skipped."""
        return self._store.find(stage.name)

    def data_stage(self, number: int) -> Stage:
        """The round's data from the policy of now."""
        config, built = self._config, self._config.built(number)
        models = self._models()
        asked = [role for role in models if role != _HELD_OUT_JUDGE or role in asdict(built.options).values()]
        task = DataTask(
            number=number,
            algorithm=built,
            prompts=self._sets.of_round(number, config.prompts_per_round),
            texts=prompts.texts(config, built),
            principles=prompts.principles(config),
            models=models,
            hidden=[*self._sets.held_out, *self._sets.benchmark],
            seed=config.seed,
            tries=config.judge_tries,
            judge_guided=config.judge_guided,
        )
        own_code = manifest.file_sha256(built.own_file) if built.own_file else None
        inputs = {
            "algorithm": built.name,
            "options": asdict(built.options),
            "round": number,
            "prompts": prompts.digest(task.prompts),
            "hidden": prompts.digest(task.hidden),
            "texts": dict(task.texts.sources),
            "principles": list(task.principles),
            "models": {role: self._digest(role, models[role]) for role in asked},
            "engine": {role: self._engine(role, models[role]) for role in asked},
            "verifier": [config.verifier, config.verifier_options],
            "reward_model": self._machinery.digest(config.reward_model) if config.reward_model else None,
            "seed": config.seed,
            "tries": config.judge_tries,
            **self._guidance(),
            **_named(
                prompt_files={
                    **judge_files.of_data(built, config.judge_guided),
                    **judge_files.of_verifier(config.verifier, config.verifier_options),
                },
                own_code=own_code,
            ),
        }

        def work(folder: Path) -> Mapping[str, Any]:
            try:
                return task.run(self._machinery, folder)
            finally:
                self._machinery.release_reward()

        return Stage("data", self._with_files(inputs), work, self._last_trained())

    def train_stage(self, number: int, data: Done, start: str) -> Stage:
        """The round's training on its data and those of `carry_rounds` rounds of its kind before."""
        from autoalign.training.output import worker_count

        used = [*carried(self._data, Kind.of(self._config.built(number)), self._config.carry_rounds), data]
        paths = [str(done.folder / DATA) for done in used]
        job = self._config.train_config(number, start, paths, "")
        settings = {k: v for k, v in job.model_dump().items() if k not in _FREE_TRAINING}
        inputs: dict[str, Any] = {
            "job": job.job,
            "settings": settings,
            "model": self._machinery.digest(start),
            "data": [done.digest(DATA) for done in used],
        }
        if (workers := worker_count(job)) != 1:
            inputs["workers"] = workers  # so many times as large a batch

        def work(folder: Path) -> Mapping[str, Any]:
            if not self._config.side_by_side:
                self._machinery.sample.release()
            return self._machinery.train(number, start, paths, folder / MODEL)

        return Stage(
            "train", self._with_files(inputs), work, (*(done.name for done in used), *self._made(start))
        )

    def answers_stage(self, model: str) -> Stage:
        """A model's answers to what is held out; the same stage whatever round asks."""
        sets = {"held_out": self._sets.held_out, "benchmark": self._sets.benchmark}
        inputs = {
            "model": self._machinery.digest(model),
            "engine": self._engine("policy", model),
            "sets": {name: prompts.digest(found) for name, found in sets.items()},
        }

        def work(folder: Path) -> Mapping[str, Any]:
            return evaluation.answer(self._machinery, model, sets, folder)

        return Stage("answers", self._with_files(inputs), work, self._made(model))

    def evaluation_stage(self, answers: Mapping[str, Done], data: Done) -> Stage:
        """The new model against the policy, and the guards."""
        config, models = self._config, self._models()
        asked = {config.metric_judge: evaluation.PAIRWISE} if config.metric == "judge" else {}
        if _HELD_OUT_JUDGE in config.models:
            asked[_HELD_OUT_JUDGE] = config.held_out_judge_prompt
        rules = prompts.principles(config)
        about = {name: data.figures.get(of) for name, of in _OF_DATA.items()}
        inputs = {
            "answers": {name: done.digest(evaluation.ANSWERS) for name, done in answers.items()},
            "held_out": prompts.digest(self._sets.held_out),
            "benchmark": prompts.digest(self._sets.benchmark),
            "metric": config.metric,
            "verifier": [config.verifier, config.verifier_options],
            "benchmark_verifier": [config.benchmark_verifier, config.benchmark_options],
            "judges": {role: self._digest(role, models[role]) for role in asked},
            "engine": {role: self._engine(role, models[role]) for role in asked},
            "principles": list(rules),
            "data": about,
            "seed": config.seed,
            "tries": config.judge_tries,
            **self._guidance(),
            **_named(questions=asked, prompt_files=self._judge_files(asked)),
        }

        if len(rules) > 1:
            inputs["rules_shown"] = len(rules)

        def work(folder: Path) -> Mapping[str, Any]:
            judging = evaluation.Judging(
                self._machinery, models, folder / TEXTS, config.judge_tries, rules, config.judge_guided
            )
            texts = {name: evaluation.read_answers(done.folder) for name, done in answers.items()}
            return {**evaluate(config, self._sets, self._machinery, judging, texts), **about}

        after = tuple(dict.fromkeys(done.name for done in answers.values()))
        return Stage("evaluation", self._with_files(inputs), work, after)

    def _judge_files(self, asked: Mapping[str, str]) -> dict[str, str]:
        """Of the evaluation: role to judge prompt, and the scorers."""
        config = self._config
        judged = judge_files.of_comparisons(asked.values(), config.judge_guided) if asked else {}
        benchmark = config.benchmark_verifier if self._sets.benchmark else None
        return {
            **judged,
            **judge_files.of_verifier(config.verifier, config.verifier_options),
            **judge_files.of_verifier(benchmark, config.benchmark_options),
        }

    def _with_files(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """With the digests of the files and model folders that the inputs name (rubrics, templates, ...)."""
        named = {text: self._file_digest(text) for text in _texts_in(inputs)}
        found = {text: digest for text, digest in named.items() if digest is not None}
        return {**inputs, "files": found} if found else inputs

    def _file_digest(self, name: str) -> str | None:
        path = Path(name).expanduser()
        try:
            if path.is_file():
                return manifest.file_sha256(path)
            return self._machinery.digest(str(path)) if (path / "config.json").is_file() else None
        except OSError:  # a text too long for a name
            return None

    def _guidance(self) -> dict[str, bool]:
        """Nothing where judges are free, as in jobs from before there was a choice."""
        return {"judge_guided": True} if self._config.judge_guided else {}

    def _stage(self, entry: Round, what: str, stage: Stage) -> Done:
        entry.stages[what] = stage.name
        self.ledger.write()
        return self._store.run(stage)

    def _models(self) -> dict[str, str]:
        """Role to model folder (or an endpoint's model id)."""
        default = {
            "policy": self._policy,
            "judge": self._policy,
            "strong": self._first,
            "weak": self._policy,
            "generator": self._policy,
        }
        own = {**default, _HELD_OUT_JUDGE: self._first}  # a judge that moved would be no yardstick
        given = {
            role: each if isinstance(each, str) else str(each.get("model_path", own[role]))
            for role, each in self._config.models.items()
        }
        return {**default, **given, **self._trained}

    def _digest(self, role: str, model: str) -> str:
        given = self._config.models.get(role)
        if isinstance(given, dict) and given.get("backend", self._config.backend) == "openai":
            return f"openai {given.get('base_url')} {model}"
        return self._machinery.digest(model)

    def _engine(self, role: str, model: str) -> dict[str, Any]:
        settings = self._config.engine_config(model, role).model_dump()
        return {key: value for key, value in settings.items() if key not in _FREE}

    def _made(self, model: str) -> tuple[str, ...]:
        """The stage that a model came from."""
        folder = Path(model).parent
        return (folder.name,) if folder.parent == self._store.root else ()

    def _last_trained(self) -> tuple[str, ...]:
        made = [self._made(self._policy), *map(self._made, self._trained.values())]
        return tuple(dict.fromkeys(name for names in made for name in names))

    def _link_policy(self) -> None:
        self.ledger.policy = self._policy
        temporary = self._link.with_name(f".{PROMOTED}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(self._policy, self._link.parent), target_is_directory=True)
        temporary.replace(self._link)

    @property
    def _link(self) -> Path:
        return self._store.root.parent / PROMOTED


def follow(steps: Steps, output: Callable[[str, Stage], Done | None]) -> None:
    """Go through a round's stages, each with its `output`."""
    done: Done | None = None
    while True:
        try:
            what, stage = steps.send(done)
        except StopIteration:
            return
        done = output(what, stage)


def evaluate(
    config: AlignConfig,
    sets: PromptSets,
    machinery: Machinery,
    judging: evaluation.Judging,
    texts: Mapping[str, Mapping[str, Mapping[str, str]]],
) -> dict[str, Any]:
    """Gain over the policy, and the guards' figures; `texts`: model, set, prompt id.

    Raises:
        ConfigError: there is nothing to compare by.
    """
    held_out = {name: each["held_out"] for name, each in texts.items()}
    new, policy, first = (held_out[name] for name in ("new", "policy", "first"))
    found: dict[str, Any] = {"metric": config.metric, "held_out": len(sets.held_out)}
    if config.metric == "verifier":
        if machinery.verify is None:
            raise ConfigError("'metric' verifier needs a 'verifier'; or set metric: judge")
        before, after = evaluation.accuracies(sets.held_out, policy, new, machinery.verify)
        gained = evaluation.gain(before, after, config.seed)
        found |= {"policy_accuracy": evaluation.share(before), "accuracy": evaluation.share(after)}
    else:
        judged = judging.compare(config.metric_judge, sets.held_out, policy, new)
        before, after = [0.5] * len(judged.wins), judged.wins
        if 0 < judged.asked == judged.unread:
            raise JobFailed(
                f"not one of {judged.asked} comparisons by '{config.metric_judge}' could be read; "
                "give a stronger judge under 'models', or set judge_guided: true"
            )
        gained = evaluation.gain(before, after, config.seed)
        found |= {
            "win_rate": evaluation.share(judged.wins),
            "judge_unread": judged.unread,
            "judge_asked": judged.asked,
            "judge_first": judged.first,
            "judge_agreeing": judged.agreeing,
            "judge_longer": judged.longer,
        }
    found |= {
        "gain": evaluation.as_dict(gained),
        "p_value": evaluation.p_value(before, after, config.seed),
        "compared": len(before),
    }
    if _HELD_OUT_JUDGE in config.models:
        other = judging.compare(_HELD_OUT_JUDGE, sets.held_out, policy, new, config.held_out_judge_prompt)
        found |= {"held_out_judge_first": other.first, "held_out_judge_unread": other.unread}
        if other.wins:
            held_out_gain = evaluation.gain([0.5] * len(other.wins), other.wins, config.seed)
            found["held_out_judge"] = evaluation.as_dict(held_out_gain)
            if config.metric == "judge":
                found["reward_hacking"] = round(gained.value - held_out_gain.value, 4)
    found |= guards.texts(list(first.values()), list(new.values()))
    if sets.benchmark and machinery.benchmark is not None:
        was, now = evaluation.accuracies(
            sets.benchmark, texts["first"]["benchmark"], texts["new"]["benchmark"], machinery.benchmark
        )
        found["benchmark_checked"] = len(was)
        if was:
            found["benchmark"] = evaluation.share(now)
            found["forgetting"] = evaluation.as_dict(evaluation.gain(was, now, config.seed))
    return found


def _named(**inputs: Any) -> dict[str, Any]:
    """Those that hold something: a stage that has none keeps the name it had before there were any."""
    return {name: value for name, value in inputs.items() if value}


def _texts_in(value: Any) -> Iterator[str]:
    """Every string among JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for each in value.values() for text in _texts_in(each))
    elif isinstance(value, list | tuple):
        yield from (text for each in value for text in _texts_in(each))
