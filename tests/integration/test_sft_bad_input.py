"""`autoalign-cli sft` with wrong input: one message with its place, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from autoalign.cli.main import main  # noqa: E402
from autoalign.training import checkpoint  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = pytest.mark.slow

GOOD = json.dumps(
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOALIGN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@dataclass
class Sft:
    """Runs `sft` on two good rows; later flags override earlier ones."""

    model: Path
    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def write(self, content: str | bytes, name: str = "rows.jsonl") -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def __call__(self, *flags: str | Path) -> tuple[int, str]:
        """Exit code, and stderr without the lines of progress."""
        data = self.folder / "rows.jsonl"
        if not data.exists():
            self.write(f"{GOOD}\n" * 2)
        fixed = {
            "--model_name_or_path": self.model,
            "--data_path": data,
            "--output_dir": self.output,
            "--conv_template_name": "chatml",
            "--launcher": "local",
            "--max_steps": 1,
            "--bf16": "false",
        }
        words = [str(word) for pair in fixed.items() if pair[0] not in flags for word in pair]
        code = main(["sft", *words, *map(str, flags)])
        lines = self.capsys.readouterr().err.splitlines()
        at = next((i for i, line in enumerate(lines) if line.startswith("error: ")), len(lines))
        return code, "\n".join(lines[at:])

    def refuses(self, *flags: str | Path) -> str:
        """The message of a run that must end with exit code 2 and leave nothing behind."""
        before = _files(self.folder)
        code, message = self(*flags)
        assert code == 2, message
        assert message.startswith("error: ") and "Traceback" not in message
        assert _files(self.folder) - before <= {Path("rows.jsonl")}
        return message.removeprefix("error: ")


def _files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


@pytest.fixture
def sft(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Sft:
    return Sft(tiny, tmp_path, capsys)


def _row(*turns: tuple[str, str]) -> str:
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]})


# Data


def test_a_missing_file(sft: Sft):
    path = sft.folder / "absent.jsonl"
    assert sft.refuses("--data_path", path) == f"{path}: no such file"


def test_an_empty_file(sft: Sft):
    path = sft.write("")
    assert sft.refuses() == f"{path}: the file is empty: it holds no rows"


def test_broken_json_in_line_7(sft: Sft):
    path = sft.write(f"{GOOD}\n" * 6 + '{"messages": [\n' + f"{GOOD}\n")
    assert sft.refuses().startswith(f"{path}:7: broken JSON")


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(sft: Sft):
    sft.write(b"\xef\xbb\xbf" + f"{GOOD}\r\n".encode() * 3)
    assert sft() == (0, "")
    manifest = json.loads((sft.output / "autoalign.json").read_text())
    assert manifest["data"]["rows"] == 3


def test_a_wrong_encoding(sft: Sft):
    row = '{"messages": [{"role": "user", "content": "caf\xe9"}]}\n'
    path = sft.write(f"{GOOD}\n".encode() + row.encode("latin-1"))
    message = sft.refuses()
    assert message.startswith(f"{path}:2: not UTF-8: byte 0xe9")
    assert "iconv" in message


def test_two_user_turns_in_a_row(sft: Sft):
    path = sft.write(_row(("user", "a"), ("user", "b"), ("assistant", "c")))
    assert sft.refuses() == f"{path}:1: messages[1]: two user turns in a row"


def test_no_answer_to_train_on(sft: Sft):
    path = sft.write(_row(("user", "a")))
    assert sft.refuses().startswith(f"{path}:1: messages: no answer to train on")


def test_an_unknown_role(sft: Sft):
    path = sft.write(_row(("user", "a"), ("asistant", "c")))
    expected = f"{path}:1: messages[1].role: unknown role 'asistant' (did you mean 'assistant'?)"
    assert sft.refuses().startswith(expected)


def test_many_bad_rows_are_one_message_with_the_first_twenty(sft: Sft):
    sft.write(f"{_row(('user', 'a'))}\n" * 30)
    lines = sft.refuses().splitlines()
    assert lines[0] == "30 of 30 rows are bad; nothing was done"
    assert len(lines) == 1 + 20 + 1 + 1
    assert "quarantine" in lines[-1]


def test_quarantine_with_no_good_row_leaves_nothing(sft: Sft):
    sft.write(_row(("user", "a")))
    assert "no answer to train on" in sft.refuses("--on_bad_row", "quarantine")


def test_a_folder_for_data(sft: Sft):
    assert (
        sft.refuses("--data_path", sft.folder) == f"{sft.folder}: this is a folder; name the data files in it"
    )


def test_preference_rows(sft: Sft):
    path = sft.write(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}))
    assert sft.refuses().startswith(f"{path}:1: sft rows are expected")


def test_bad_evaluation_data(sft: Sft):
    path = sft.write(_row(("user", "a")), "eval.jsonl")
    assert sft.refuses("--eval_data_path", path).startswith(f"{path}:1: messages: no answer")


def test_rows_that_are_all_too_long(sft: Sft):
    assert sft.refuses("--model_max_length", "5") == (
        "no row is left to train on: all 2 are over model_max_length 5"
    )


def test_an_unknown_format(sft: Sft):
    assert "'sharegtp' (did you mean 'sharegpt'?)" in sft.refuses("--format", "sharegtp")


# Templates and models


def test_an_unknown_template(sft: Sft):
    message = sft.refuses("--conv_template_name", "chatlm")
    assert message.startswith("no chat template is named 'chatlm' (did you mean 'chatml'?); there are: ")


def test_a_template_file_that_is_absent(sft: Sft):
    path = sft.folder / "mine.jinja"
    assert sft.refuses("--conv_template_name", path).startswith(f"{path}: no such chat template file")


def _model_without(sft: Sft, *left_out: str) -> Path:
    folder = sft.folder / "model"
    shutil.copytree(sft.model, folder, ignore=shutil.ignore_patterns(*left_out))
    return folder


def test_a_model_folder_that_is_absent(sft: Sft):
    path = sft.folder / "absent"
    assert sft.refuses("--model_name_or_path", path).startswith(f"{path}: no such model folder")


def test_a_model_folder_without_tokenizer(sft: Sft):
    folder = _model_without(sft, "tokenizer*")
    message = sft.refuses("--model_name_or_path", folder)
    assert message.startswith(f"{folder}: ") and "tokenizer.json missing" in message


def test_a_model_folder_without_weights(sft: Sft):
    folder = _model_without(sft, "*.safetensors")
    message = sft.refuses("--model_name_or_path", folder)
    assert message.startswith(f"{folder}: ") and "*.safetensors missing" in message


def test_weights_that_were_cut_off(sft: Sft):
    folder = _model_without(sft)
    os.truncate(folder / "model.safetensors", 50_000)
    message = sft.refuses("--model_name_or_path", folder)
    assert message.startswith(f"{folder}: the model can't be loaded: ")


def test_a_model_type_that_transformers_does_not_know(sft: Sft):
    folder = _model_without(sft)
    (folder / "config.json").write_text('{"model_type": "lama"}')
    assert "model type `lama`" in sft.refuses("--model_name_or_path", folder)


def test_a_lora_target_that_the_model_lacks(sft: Sft):
    message = sft.refuses("--use_lora", "--lora_target_modules", "v_proj", "q_porj")
    assert message.startswith(
        "'lora_target_modules': the model has no module 'q_porj' (did you mean 'q_proj'?)"
    )


# Flags and config files


def test_an_unknown_flag_names_the_nearest(sft: Sft):
    assert sft.refuses("--warmup_ration", "0.1").startswith(
        "unknown flag '--warmup_ration' (did you mean '--warmup_ratio'?)"
    )


def test_a_flag_without_its_value(sft: Sft):
    assert sft.refuses("--data_path").startswith("argument --data_path: expected at least one argument")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\nseed: 2\n", ":2: key 'seed' is given twice"),
        ("seed: 1\n\tlora_rank: 3\n", ":2: not valid YAML: found character '\\t'"),
        ("seed: 1\nlora_rank: many\n", ":2: 'lora_rank': Input should be a valid integer"),
        ("use_lora: 7\n", ":1: 'use_lora': Input should be a valid boolean"),
        ("weight_deacy: 1\n", ":1: unknown key 'weight_deacy' (did you mean 'weight_decay'?)"),
        ("- seed\n", ": a mapping of keys to values is expected"),
    ],
)
def test_a_config_file_names_its_line(sft: Sft, text: str, expected: str):
    path = sft.write(text, "x.yaml")
    message = sft.refuses("--config", path)
    assert message.startswith(f"{path}{expected}")
    assert len(message.splitlines()) == 1


def test_a_config_file_that_is_absent(sft: Sft):
    path = sft.folder / "x.yaml"
    assert sft.refuses("--config", path) == f"{path}: No such file or directory"


def test_a_deepspeed_file_that_is_absent(sft: Sft):
    path = sft.folder / "ds.json"
    assert sft.refuses("--deepspeed", path) == f"'deepspeed': no such file: {path}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"zero', "not valid JSON"),
        ('{"zero_optimisation": {}}', "unknown key 'zero_optimisation' (did you mean 'zero_optimization'?)"),
        ('{"zero_optimization": {"stage": 9}}', "'zero_optimization' is {'stage': 9}"),
        ('{"zero_optimization": {"stage": 2, "stge": 1}}', "DeepSpeed refuses 'stge'"),
        ('{"gradient_clipping": 3.0}', "'gradient_clipping' is 3.0, but the job says 1.0"),
        ('{"fp16": {"enabled": true}}', "'fp16.enabled' is true"),
    ],
)
def test_a_wrong_deepspeed_file(sft: Sft, content: str, expected: str):
    path = sft.write(content, "ds.json")
    assert sft.refuses("--deepspeed", path).startswith(f"{path}: {expected}")


def test_a_checkpoint_to_resume_from_that_is_absent(sft: Sft):
    path = sft.folder / "checkpoint-9"
    assert sft.refuses("--resume", path).startswith(f"'resume': {path} is no checkpoint")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_not_there(sft: Sft):
    assert sft.refuses("--use_gpu", "true").startswith("'use_gpu' is true, but PyTorch finds no GPU here")


# Where the files go


def _unchanged(folder: Path, act: Callable[[], str]) -> str:
    """What `act` says, while no file in `folder` changes."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    message = act()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    return message


def test_an_output_folder_of_another_run(sft: Sft):
    assert sft("--seed", "1") == (0, "")
    message = _unchanged(sft.output, lambda: sft.refuses("--seed", "2"))
    assert message.startswith(f"{sft.output} holds another run:\n  seed: was 1, is 2\n")
    assert "--overwrite_output_dir" in message


def test_bad_rows_are_not_written_into_another_runs_folder(sft: Sft):
    assert sft("--seed", "1") == (0, "")
    sft.write(f"{GOOD}\n{_row(('user', 'a'))}\n")
    _unchanged(sft.output, lambda: sft.refuses("--on_bad_row", "quarantine"))


def test_an_output_folder_with_other_things(sft: Sft):
    sft.output.mkdir()
    (sft.output / "thesis.tex").write_text("precious")
    message = _unchanged(sft.output, sft.refuses)
    assert message.startswith(f"output_dir {sft.output} holds other things (thesis.tex)")


def test_an_output_folder_that_is_a_file(sft: Sft):
    path = sft.write("x", "out")
    assert sft.refuses() == f"output_dir {path} is a file; give a folder"


def test_an_output_folder_below_a_file(sft: Sft):
    path = sft.write("x", "file")
    assert sft.refuses("--output_dir", path / "out").endswith(f"can't be made: {path} is a file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission(sft: Sft):
    locked = sft.folder / "locked"
    locked.mkdir(mode=0o500)
    assert sft.refuses("--output_dir", locked / "out").endswith(
        f"{locked} can't be written; give another --output_dir"
    )


def test_a_cache_folder_below_a_file(sft: Sft):
    path = sft.write("x", "file")
    assert sft.refuses("--cache_dir", path).endswith("Not a directory; give another folder with --cache_dir")


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int, str], Path]]:
    """Mounts a tmpfs of some kB; `options` as mount's -o."""
    mounted: list[Path] = []

    def make(kilobytes: int, options: str = "rw") -> Path:
        disk = tmp_path / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,{options}", "tmpfs", str(disk)]
        if os.geteuid() or shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
            pytest.skip("mounting a tmpfs takes root")
        mounted.append(disk)
        return disk

    yield make
    for disk in mounted:
        subprocess.run(["umount", str(disk)], check=True)


def test_no_room_for_the_model(sft: Sft, small_disk: Callable[[int, str], Path]):
    disk = small_disk(64, "rw")
    message = sft.refuses("--output_dir", disk / "out")
    # The tiny model holds 29,000 weights or so, 4 bytes each.
    assert message.startswith(f"output_dir {disk / 'out'}: 66 kB are free on its disk, the model")
    assert "give another --output_dir" in message


def test_a_read_only_disk(sft: Sft, small_disk: Callable[[int, str], Path]):
    disk = small_disk(64, "ro")
    assert sft.refuses("--output_dir", disk / "out").endswith(
        f"{disk} can't be written; give another --output_dir"
    )


def test_a_disk_that_fills_up_keeps_the_checkpoint_before(sft: Sft, small_disk: Callable[[int, str], Path]):
    """Each checkpoint takes about 0.5 MB: the start finds the room it asks for, the fifth one doesn't."""
    write_conversations(sft.folder / "rows.jsonl")
    disk = small_disk(2500, "rw")
    flags = ("--output_dir", disk / "out", "--save_steps", "1", "--max_steps", "8")
    code, message = sft(*flags)
    assert code == 1
    assert "Traceback" not in message and len(message.splitlines()) == 1
    kept = checkpoint.find_checkpoints(disk / "out")
    assert checkpoint.newest_whole(disk / "out", pytest.fail) == kept[-1]
    assert message.startswith(f"error: output_dir {disk / 'out'}: its disk is full; {kept[-1].name} is whole")
    assert not list((disk / "out").glob(".*.tmp"))


def test_after_room_is_made_the_same_command_goes_on(sft: Sft, small_disk: Callable[[int, str], Path]):
    write_conversations(sft.folder / "rows.jsonl")
    disk = small_disk(2500, "rw")
    flags = ("--output_dir", disk / "out", "--save_steps", "1", "--max_steps", "8")
    assert sft(*flags)[0] == 1
    for path in checkpoint.find_checkpoints(disk / "out")[:-1]:
        shutil.rmtree(path)
    assert sft(*flags, "--save_total_limit", "1") == (0, "")
    metrics = (disk / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == list(range(1, 9))
