"""The configuration tree: TOML, overrides, and messages that a user can act on."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from txrec.config import FINE_TUNING_LR, Config, PretrainConfig, fingerprint
from txrec.config_loader import load, parse, with_absolute_paths, with_overrides
from txrec.errors import ConfigError


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    file = tmp_path / "shop.toml"
    file.write_text('name = "shop"\n[train]\nlr = 0.002\n[[data.events]]\npath = "clicks.csv"\n')
    return file


def message(file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(file, overrides)
    return str(error.value)


def test_overrides_win_over_the_file_and_are_read_as_toml(toml: Path) -> None:
    config = load(toml, ["train.lr=1e-4", "train.target_events=['click']", "train.metric=recall@5"])
    assert config.train.lr == 1e-4
    assert config.train.target_events == ("click",)
    assert config.train.metric == "recall@5"


def test_an_entry_of_a_list_of_sources_can_be_overridden(toml: Path) -> None:
    assert load(toml, ["data.events.0.delimiter='::'"]).data.events[0].delimiter == "::"


def test_an_unknown_key_in_the_file_names_the_file_and_the_nearest_key(toml: Path) -> None:
    toml.write_text('name = "shop"\n[train]\nlearning_rat = 0.1\nbatchsize = 3\n')
    text = message(toml)
    assert str(toml) in text
    assert "unknown key train.learning_rat" in text


def test_an_unknown_override_names_the_nearest_key(toml: Path) -> None:
    assert "did you mean train.batch_size?" in message(toml, "train.batchsize=3")
    assert "did you mean train?" in message(toml, "trian.lr=3")
    assert "did you mean data.events.0.delimiter?" in message(toml, "data.events.0.delimeter=';'")


def test_a_bad_value_names_key_value_and_range(toml: Path) -> None:
    assert "command line: train.lr = 3: input should be less than or equal to 1" in message(toml, "train.lr=3")
    text = message(toml, "train.loss=hinge")
    assert "train.loss = 'hinge'" in text
    assert "'full'" in text


def test_a_missing_file_lists_the_configurations_beside_it(toml: Path) -> None:
    assert "shop.toml" in message(toml.with_name("shpo.toml"))


def test_broken_toml_says_where(toml: Path) -> None:
    toml.write_text("name = \n")
    assert "line 1" in message(toml)


def test_an_override_without_a_value_shows_the_form(toml: Path) -> None:
    assert "dotted.key=value" in message(toml, "train.lr")


def test_heads_must_divide_the_width(toml: Path) -> None:
    assert "model.num_heads (3) must divide model.dim (64)" in message(toml, "model.num_heads=3")


def test_the_tree_cannot_be_changed(toml: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(toml).train.lr = 1.0  # type: ignore[misc]


def test_every_field_is_documented() -> None:
    def undocumented(section: type, prefix: str = "") -> list[str]:
        found = []
        for name, field in section.model_fields.items():  # type: ignore[attr-defined]
            found += [] if field.description else [prefix + name]
            if hasattr(field.annotation, "model_fields"):
                found += undocumented(field.annotation, f"{prefix}{name}.")
        return found

    assert undocumented(Config) == []


def test_a_fingerprint_follows_values_not_their_order() -> None:
    config = Config(name="a")
    assert fingerprint(config.train, {"a": 1, "b": 2}) == fingerprint(config.train, {"b": 2, "a": 1})
    other = with_overrides(config, {"train.lr": 0.5})
    assert fingerprint(config.train) != fingerprint(other.train)


def test_search_overrides_are_validated_too() -> None:
    with pytest.raises(ConfigError, match=r"train\.dropuot"):
        with_overrides(Config(name="a"), {"train.dropuot": 0.1})


def test_a_date_needs_no_quotes_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text('name = "shop"')
    config = load(tmp_path / "shop.toml", ["prepare.split.test_start=2011-10-10"])
    assert config.prepare.split.test_start == "2011-10-10"


def test_a_checkpoint_is_trained_at_a_rate_of_its_own_unless_one_is_named(toml: Path) -> None:
    assert load(toml).pretrain.lr == PretrainConfig().lr
    assert load(toml, ["text.encoder=hf:minilm"]).pretrain.lr == FINE_TUNING_LR < PretrainConfig().lr
    assert load(toml, ["text.encoder=hf:minilm", "pretrain.lr=0.003"]).pretrain.lr == 0.003
    with pytest.raises(ConfigError, match="text"):
        load(toml, ["text=3"])


def test_local_paths_become_absolute_and_uris_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tree = {"name": "shop", "data": {"root": "raw"}, "text": {"encoder": "hf:encoder"}, "serve": {"keys_file": "keys"}}
    config = with_absolute_paths(parse(tree, "test"))
    assert config.run_dir == tmp_path / "runs" / "shop"
    assert config.data.root == str(tmp_path / "raw")
    assert config.text.encoder == f"hf:{tmp_path / 'encoder'}"
    assert config.serve.keys_file == str(tmp_path / "keys")
    assert config.serve.state == ""
    remote = parse({**tree, "runs_root": "s3://bucket/runs", "serve": {"state": "redis://localhost:6379/0"}}, "test")
    assert with_absolute_paths(remote).runs_root == "s3://bucket/runs"
    assert with_absolute_paths(remote).serve.state == "redis://localhost:6379/0"
