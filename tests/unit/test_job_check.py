"""Configs from users of a platform: every text in them has a role, and paths stay below the roots."""

import pytest

from autoalign.jobs import kinds
from autoalign.jobs.check import InvalidField
from autoalign.jobs.kinds._kind import Role, holds_text
from tests.platforms import ALICE, BOB, Order, open_platform, sft

ALIGN = {"model_name_or_path": "base", "prompt_path": "rows.jsonl", "algorithm": "rft", "verifier": "numeric"}


@pytest.fixture
def platform(tmp_path):
    return open_platform(tmp_path)


@pytest.mark.parametrize("name", kinds.names())
def test_every_key_with_text_has_a_role(name):
    kind = kinds.load(name)
    with_text = {key for key, field in kind.config.model_fields.items() if holds_text(field.annotation)}
    assert with_text <= kind.roles.keys()
    assert kind.roles.keys() <= kind.config.model_fields.keys()


@pytest.mark.parametrize("name", kinds.names())
def test_no_kind_takes_code_secrets_or_addresses_from_a_user(name):
    kind = kinds.load(name)
    keys = {
        "trust_remote_code",
        "base_url",
        "judge_base_url",
        "user_base_url",
        "api_key_env",
        "judge_api_key_env",
        "ray_address",
    }
    assert {kind.role(key) for key in keys & kind.config.model_fields.keys()} <= {Role.CLOSED}


def field_of(platform, order):
    with pytest.raises(InvalidField) as caught:
        platform.submit(ALICE, order)
    assert not platform.settings.jobs_folder.exists()
    return caught.value.field


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rat", 1),
        ("learning_rate", "fast"),
        ("learning_rate", True),
        ("trust_remote_code", True),
        ("storage_path", "s3://bucket/x"),
        ("data_path", ["/etc/passwd"]),
        ("data_path", ["../../etc/passwd"]),
        ("data_path", ["s3://bucket/rows.jsonl"]),
        ("data_path", ["file-0000"]),
        ("data_path", ["rows.jsonl\0.txt"]),
        ("model_name_or_path", "/etc"),
        ("conv_template_name", "/etc/passwd"),
        ("conv_template_name", "../x.jinja"),
        ("deepspeed", "/etc/hosts.json"),
        ("output_dir", "/tmp/elsewhere"),
        ("output_dir", "../../elsewhere"),
        ("run_name", "../up"),
        ("lora_target_modules", ["a\0b"]),
    ],
)
def test_the_wrong_key_is_named(platform, key, value):
    assert field_of(platform, sft(**{key: value})).split(".")[0] == key


@pytest.mark.parametrize("key", ["data_path", "learning_rate"])
def test_a_value_nested_600_levels_deep_is_refused(platform, key):
    value = "rows.jsonl"
    for _ in range(600):
        value = [value]
    assert field_of(platform, sft(**{key: value})) == key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", float("inf")),
        ("learning_rate", float("nan")),
        ("seed", 2**63),
        ("seed", 10**400),
        ("\ud800", 1),
    ],
)
def test_what_no_database_takes_is_refused(platform, key, value):
    assert field_of(platform, sft(**{key: value})) == key


@pytest.mark.parametrize(
    "value",
    [
        {"\ud800": 1},
        {"a\0b": 1},
        {"k" * 1001: 1},
        {"deep": {"\ud800": 1}},
        {"deep": {"er": [[{"a\0b": 1}]]}},
        {"deep": [1.0, float("inf")]},
        {"deep": {"er": float("nan")}},
    ],
)
@pytest.mark.parametrize("key", ["training", "verifier_options", "round_options"])
def test_what_no_database_takes_is_refused_at_any_depth(platform, key, value):
    assert field_of(platform, Order("align", {**ALIGN, key: value})) == key


def test_an_unknown_kind_is_named(platform):
    assert field_of(platform, Order("sfft", {})) == "kind"


def test_a_link_that_leaves_the_roots_is_refused(platform, tmp_path):
    (tmp_path / "secret.jsonl").write_text("{}")
    (tmp_path / "roots" / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    assert field_of(platform, sft(data_path=["link.jsonl"])) == "data_path"


def test_the_config_names_real_places(platform, tmp_path):
    job = platform.submit(ALICE, sft(data_path=["rows.jsonl@2"], output_dir="deep/er"))
    text = platform.folder(job.id).config.read_text()
    assert f"- {tmp_path}/roots/rows.jsonl@2" in text
    assert f"model_name_or_path: {tmp_path}/roots/base" in text
    assert f"output_dir: {platform.folder(job.id).out}/deep/er" in text


def test_a_model_that_is_served_is_begun_from_wherever_it_lies(platform, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    platform.served = {"mine": elsewhere}.get
    job = platform.submit(ALICE, sft(model_name_or_path="mine"))
    assert f"model_name_or_path: {elsewhere}\n" in platform.folder(job.id).config.read_text()
    assert platform.references(ALICE).model("base") == str(tmp_path / "roots" / "base")
    assert platform.references(ALICE).model(str(elsewhere)) is None


def test_files_and_results_of_others_are_not_there(platform):
    with platform.files.upload() as upload:
        upload.write(b"{}\n")
        row = platform.files.keep(upload, ALICE.token_id, "a.jsonl", "fine-tune")
    job = platform.submit(ALICE, sft(data_path=[row.id]))
    (platform.folder(job.id).out / "rows.jsonl").touch()
    platform.submit(ALICE, sft(data_path=[f"{job.id}/rows.jsonl"]))
    for name in (row.id, f"{job.id}/rows.jsonl", f"{job.id}/../config.yaml"):
        with pytest.raises(InvalidField):
            platform.submit(BOB, sft(data_path=[name]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training", {"trust_remote_code": True}),
        ("training", {"data_path": ["/etc/passwd"]}),
        ("training", {"storage_path": "s3://bucket"}),
        ("training", "{trust_remote_code: true}"),
        ("engine", {"base_url": "http://elsewhere"}),
        ("engine", {"new_text_key": "x"}),
        ("models", {"judge": "/etc"}),
        ("models", {"judge": {"backend": "openai", "base_url": "http://elsewhere"}}),
        ("models", {"judge": {"model_path": "/etc"}}),
        ("options", {"file": "/etc/passwd"}),
        ("round_options", [{"deep": {"file": "x"}}]),
    ],
)
def test_mappings_are_looked_into(platform, key, value):
    assert field_of(platform, Order("align", {**ALIGN, key: value})).split(".")[0] == key


def test_a_mapping_with_allowed_keys_is_taken(platform, tmp_path):
    training = {"learning_rate": 1e-4, "use_lora": True, "conv_template_name": "chatml"}
    job = platform.submit(ALICE, Order("align", {**ALIGN, "training": training, "models": {"judge": "base"}}))
    text = platform.folder(job.id).config.read_text()
    assert f"judge: {tmp_path}/roots/base" in text
    assert "learning_rate: 0.0001" in text
