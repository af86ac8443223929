"""Where OpenCompass finds data sets, and what is said of those that it would not find."""

from pathlib import Path

import pytest

from autoalign.evaluation.inside_opencompass.data_places import Place, cache_folder, place_of

MAPPING = {"opencompass/gsm8k": {"local": "./data/gsm8k"}, "opencompass/beside": {"local": "beside/it"}}
HUB = {"path": "truthful_qa", "name": "generation"}


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def place(data, **dataset):
    return place_of(dataset, MAPPING, data, data.parent / "cache")


@pytest.mark.parametrize(
    ("path", "looked_in"),
    [
        ("opencompass/gsm8k", "data/gsm8k"),
        ("./data/quiz.json", "data/quiz.json"),
        ("opencompass/beside", "beside/it"),
    ],
)
def test_opencompass_finds_its_own_by_itself(data, path, looked_in):
    where = data.parent / looked_in
    assert place(data, path=path) == Place(str(where), found=False)
    where.mkdir(parents=True)
    assert place(data, path=path) == Place(str(where))


def test_the_data_of_a_reader_of_files_are_its_files(data):
    assert place(data, path="json", data_files="./data/a.json") == Place(str(data / "a.json"), found=False)


def test_a_set_without_a_path_is_not_looked_for(data):
    assert place(data) == place(data, path="") == Place()


def test_a_hubs_set_that_is_nowhere_is_told_with_both_places(data):
    told = f"{data / 'truthful_qa'}, and the cache {data.parent / 'cache'}"
    assert place(data, **HUB) == Place(told, found=False)


def test_a_copy_of_the_hubs_folder_is_given_by_its_path(data):
    folder = data / "truthful_qa"
    (folder / "generation").mkdir(parents=True)
    assert place(data, **HUB).told.startswith(f"{folder} (no README.md that names its config generation")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: generation\n---\n")
    assert place(data, **HUB) == Place(str(folder), True, str(folder))


def test_an_empty_folder_is_no_copy(data):
    (data / "glue").mkdir()
    assert place(data, path="glue") == Place(f"{data / 'glue'} (an empty folder)", found=False)


@pytest.mark.parametrize(
    ("given", "cached"),
    [(HUB, "truthful_qa/generation"), ({"path": "org/MathQA"}, "org___math_qa/default")],
)
def test_what_hugging_face_keeps_is_found(data, given, cached):
    known = data.parent / "cache" / cached / "0.0.0" / "abc"
    known.mkdir(parents=True)
    assert not place(data, **given).found
    (known / "dataset_info.json").write_text("{}")
    assert place(data, **given) == Place(str(known.parents[2]))


def test_another_config_in_the_cache_is_not_enough(data):
    known = data.parent / "cache" / "truthful_qa" / "multiple_choice" / "0.0.0" / "abc"
    known.mkdir(parents=True)
    (known / "dataset_info.json").write_text("{}")
    assert not place(data, **HUB).found


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"HF_DATASETS_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/datasets"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/datasets"),
        ({}, str(Path("~/.cache/huggingface/datasets").expanduser())),
    ],
)
def test_where_hugging_face_keeps_it(variables, folder):
    assert cache_folder(variables) == Path(folder)
