"""A synthesis job from its config to its files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from autoalign import manifest, synthesis
from autoalign.config.synthesize import SynthesizeConfig
from autoalign.errors import ConfigError, JobFailed, StoppedEarly
from autoalign.sampling.output import refuse_existing
from autoalign.sampling.renderer import ChatRenderer
from autoalign.sampling.setup import Setup, prepare_model
from autoalign.sampling.stopping import stop_signals
from autoalign.synthesis import Job, Method, Row
from autoalign.synthesizing import engines
from autoalign.synthesizing.progress import SynthesisProgress
from autoalign.synthesizing.report import SynthesisReport
from autoalign.synthesizing.rows import RowFiles, beside
from autoalign.synthesizing.seeds import read_seeds
from autoalign.synthesizing.texts import TextStore
from autoalign.synthesizing.writer import Engines, Writer

_OPTIONS = (
    *("rouge_l", "excluded_words", "min_score", "turns", "greedy_answers", "rounds"),
    *("task", "seeds_are", "relations", "per_persona", "jaccard"),
)
_MADE_FOR_EACH_WANTED = 20


def run(config: SynthesizeConfig) -> SynthesisReport:
    """Make rows with `config.method`, and write them.

    Raises:
        InputError: something the user gave is wrong; no engine was started.
        JobFailed: an engine failed, or no row was kept.
        StoppedEarly: Ctrl-C or SIGTERM; the texts so far are kept for the next run.
    """
    started = time.monotonic()
    output = Path(config.output_file).expanduser()
    refuse_existing(output, config.overwrite)
    method = synthesis.build(config.method, **{key: getattr(config, key) for key in _OPTIONS})
    if method.endless and config.num_rows is None:
        raise ConfigError(f"{method.name} goes on without end: give --num_rows")
    prompts = method.prompts(Path(config.prompts_dir).expanduser() if config.prompts_dir else None)
    seeds = read_seeds(method, config.seed_path, config.seed_key, config.limit)
    setup = prepare_model(config)
    _require_openings(method, setup)
    progress = SynthesisProgress(config.num_rows)
    with ExitStack() as stack:
        stack.callback(progress.stop)
        store = stack.enter_context(_open_store(output, config.fresh))

        def start_engines() -> Engines:
            return engines.start(config, setup, stack, progress.note)

        writer = Writer(
            setup, config.seed, engines.identity(config, setup), store, start_engines, progress.text
        )
        job = Job(seeds, prompts, writer, _batch_size(config, method), config.seed, config.system_message)
        files = stack.enter_context(RowFiles(output, method.name, config.name))
        try:
            with stop_signals():
                _collect(method.run(job), files, config, progress)
        except KeyboardInterrupt:
            kept = f"{len(store)} texts are kept in {store.path}; the same command again goes on from there"
            raise StoppedEarly(f"stopped: {kept}") from None
        files.finish()
    report = _report(config, method, files, writer, started)
    manifest.write_json(
        output.with_name(f"{output.name.removesuffix('.jsonl')}.report.json"), report.to_dict()
    )
    if not report.kept:
        raise JobFailed(f"no row was kept\n{report.summary()}")
    return report


def _open_store(output: Path, fresh: bool) -> TextStore:
    try:
        return TextStore(beside(output, "texts"), fresh)
    except OSError as error:
        raise ConfigError(f"output_file {output} can't be written: {error.strerror}") from None


def _collect(
    rows: Iterator[Row], files: RowFiles, config: SynthesizeConfig, progress: SynthesisProgress
) -> None:
    most = config.max_made or (config.num_rows * _MADE_FOR_EACH_WANTED if config.num_rows else None)
    for row in rows:
        files.add(row)
        progress.rows(files.kept, files.made - files.kept)
        if files.kept == config.num_rows or files.made == most:
            return


def _require_openings(method: Method, setup: Setup) -> None:
    """Raises ConfigError or TemplateError where the model can't be made to write the user's turn."""
    if not getattr(method.module, "WRITES_QUESTIONS", False):
        return
    if not isinstance(setup.renderer, ChatRenderer):
        raise ConfigError(
            f"{method.name} feeds the model half a prompt, which a chat endpoint does not take: use backend "
            "vllm or hf"
        )
    setup.renderer.opening(())


def _batch_size(config: SynthesizeConfig, method: Method) -> int:
    """No more at once than are wanted, where each ask makes a row."""
    if method.endless and config.num_rows is not None:
        return min(config.batch_size, config.num_rows)
    return config.batch_size


def _report(
    config: SynthesizeConfig, method: Method, files: RowFiles, writer: Writer, started: float
) -> SynthesisReport:
    return SynthesisReport(
        method=method.name,
        kept=files.kept,
        reasons=dict(files.reasons),
        asked=writer.asked,
        reused=writer.kept,
        output_tokens=writer.output_tokens,
        errors=dict(writer.errors),
        wanted=config.num_rows,
        seconds=time.monotonic() - started,
        output=files.output,
        dropped=files.dropped,
    )
