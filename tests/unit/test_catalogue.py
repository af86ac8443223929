"""Which folders are models, and that none lies outside of the roots."""

import json

import pytest

from autoalign.serving.catalogue import Catalogue


def model(folder, weight=b"w"):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weight)
    return folder


def adapter(folder, base):
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (folder / "adapter_model.safetensors").write_bytes(b"a")
    return folder


@pytest.fixture
def root(tmp_path):
    return model(tmp_path / "root" / "one").parent


def ids(catalogue):
    return sorted(served.id for served in catalogue.all())


def test_the_folders_of_a_root_are_its_models(root):
    model(root / "two")
    (root / "notes").mkdir()
    assert ids(Catalogue([root])) == ["one", "two"]


def test_a_new_folder_is_there_at_once(root):
    catalogue = Catalogue([root])
    model(root / "late")
    assert catalogue.find("late").folder == root / "late"


@pytest.mark.parametrize(
    "name", ["../out", "/etc", "one/../../out", ".", "", "..", "a\0b", ".hidden", "link"]
)
def test_nothing_outside_of_a_root_is_found(root, name):
    model(root.parent / "out")
    model(root / ".hidden")
    (root / "link").symlink_to(root.parent / "out")
    assert Catalogue([root]).find(name) is None


def test_an_absolute_path_of_a_user_is_found_only_inside_a_root(root):
    out = model(root.parent / "out")
    assert Catalogue([root]).find(str(out)) is None


def test_what_the_operator_names_may_lie_anywhere(root):
    out = model(root.parent / "out")
    served = Catalogue([root], {"demo": (out, "chatml")}).find("demo")
    assert (served.id, served.folder, served.template) == ("demo", out, "chatml")


def test_new_weights_change_the_digest(root):
    before = Catalogue([root]).find("one").digest
    (root / "one" / "model.safetensors").write_bytes(b"other weights")
    assert Catalogue([root]).find("one").digest != before


def test_an_adapter_belongs_to_the_base_its_config_names(root):
    adapter(root / "tuned", root / "one")
    catalogue = Catalogue([root])
    assert catalogue.base_of(catalogue.find("tuned")).id == "one"
    assert catalogue.has_adapters(catalogue.find("one"))


def test_a_trained_models_own_adapter_is_listed_below_it(root):
    adapter(root / "one" / "adapter", "elsewhere/one")
    catalogue = Catalogue([root])
    assert ids(catalogue) == ["one", "one/adapter"]
    assert catalogue.base_of(catalogue.find("one/adapter")).id == "one"


def test_a_job_begins_from_a_whole_model_and_not_from_an_adapter(root):
    adapter(root / "tuned", root / "one")
    out = model(root.parent / "out")
    catalogue = Catalogue([root], {"demo": (out, None)})
    names = ("one", "demo", "tuned", "nobody", str(out))
    assert [catalogue.base_folder(name) for name in names] == [root / "one", out, None, None, None]


class Registry:
    """Names, and the folders that they mean."""

    def __init__(self, **folders):
        self.folders = folders

    def find(self, name, principal=None):
        return self.folders.get(name)

    def served(self):
        return {name: "a row" for name in self.folders if not name.startswith("ft:")}


def test_a_promoted_name_stands_for_its_model(root):
    made = model(root.parent / "jobs" / "job-1" / "out")
    catalogue = Catalogue([root], None, Registry(default=made), [root.parent / "jobs"])
    assert (catalogue.find("default").id, catalogue.find("default").folder) == ("default", made)
    assert ids(catalogue) == ["default", "one"]


def test_a_promotion_wins_over_the_operators_model_and_a_roots_folder_until_it_is_rolled_back(root):
    out, made = model(root.parent / "out"), model(root.parent / "jobs" / "job-1" / "out")
    registry = Registry(demo=made, one=made)
    catalogue = Catalogue([root], {"demo": (out, "chatml")}, registry, [root.parent / "jobs"])
    for served in (catalogue.find("demo"), catalogue.find("one"), *catalogue.all()):
        assert (served.folder, served.template) == (made, None)
    assert ids(catalogue) == ["demo", "one"]
    registry.folders.clear()
    assert (catalogue.find("demo").folder, catalogue.find("one").folder) == (out, root / "one")


def test_an_adapter_does_not_run_on_what_was_promoted_to_its_bases_name(root):
    adapter(root / "tuned", "somewhere/one")
    made = model(root.parent / "jobs" / "job-1" / "out")
    registry = Registry()
    catalogue = Catalogue([root], None, registry, [root.parent / "jobs"])
    assert catalogue.base_of(catalogue.find("tuned")).id == "one"
    registry.folders["one"] = made
    assert catalogue.base_of(catalogue.find("tuned")) is None


def test_a_model_of_a_job_is_found_by_its_id_but_not_listed_for_everybody(root):
    made = model(root.parent / "jobs" / "job-1" / "out")
    catalogue = Catalogue([root], None, Registry(**{"ft:one:1": made}), [root.parent / "jobs"])
    assert catalogue.find("ft:one:1").folder == made
    assert ids(catalogue) == ["one"]


def test_a_registered_model_does_not_lead_out_of_the_registrys_roots(root):
    out = model(root.parent / "out")
    assert Catalogue([root], None, Registry(default=out), [root.parent / "jobs"]).find("default") is None


def test_a_folder_deep_below_a_root_is_nobodys_to_name(root):
    model(root / "platform" / "jobs" / "job-1")
    assert Catalogue([root]).find("platform/jobs/job-1") is None


def test_a_folder_that_is_being_written_is_passed_over(root):
    (root / "one" / "model.safetensors.index.json").write_text('{"weight_')
    assert Catalogue([root]).find("one") is None
