from pathlib import Path

import pytest

from scail2_farm.errors import SettingsInvalid, WeightsMismatch, WeightsMissing
from scail2_farm.settings import SNAPSHOT_FILES, Settings, check_weights, load_settings

SIGNED = {"SCAIL2_HOOK_SECRET": "s3cret"}


@pytest.fixture
def written(tmp_path):
    """A settings file with this text, as the environment that names it."""

    def write(text: str) -> dict[str, str]:
        file = tmp_path / "s.toml"
        file.write_text(text, encoding="utf-8")
        return {"SCAIL2_SETTINGS": str(file)}

    return write


def test_defaults_toml_environment_flag(tmp_path, written):
    named = written('weights = "/toml"\n')
    assert load_settings(environment={"XDG_CONFIG_HOME": str(tmp_path)}).weights is None
    assert load_settings(environment=named).weights == "/toml"
    assert load_settings(environment=named | {"SCAIL2_WEIGHTS": "/env"}).weights == "/env"
    assert load_settings(environment=named | {"SCAIL2_WEIGHTS": "/env"}, weights="/flag").weights == "/flag"


def test_loras_are_named_by_a_table_or_by_the_environment(tmp_path, written):
    named = written('[loras]\ndpo = "/models/dpo.pt"\nlightx2v = "~/x.safetensors"\n')
    found = load_settings(environment=named).loras
    assert found == {"dpo": Path("/models/dpo.pt"), "lightx2v": Path.home() / "x.safetensors"}
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "SCAIL2_LORAS": "dpo=/a/b.pt relight=/c"}
    assert load_settings(environment=environment).loras == {"dpo": Path("/a/b.pt"), "relight": Path("/c")}
    with pytest.raises(SettingsInvalid, match="SCAIL2_LORAS must be a table of paths by name"):
        load_settings(environment=environment | {"SCAIL2_LORAS": "/a/b.pt"})


def test_the_farm_has_defaults(tmp_path):
    assert load_settings(environment={"XDG_CONFIG_HOME": str(tmp_path)}).model_dump() == {
        "weights": None,
        "tier": None,
        "loras": {},
        "cache": None,
        "farm": None,
        "ledger": None,
        "workers": 1,
        "hooks": (),
        "hook_secret": None,
        "scratch_days": 14.0,
        "render_hours": 6.0,
        "quiet_minutes": 45.0,
        "settle_s": None,
        "poll_s": 5.0,
        "retry_s": 60.0,
        "min_free_gb": 2.0,
    }


def test_the_file_and_the_environment_say_the_same(written, tmp_path):
    file = written(
        'farm = "/show/farm"\nledger = "~/ledger"\nworkers = 2\nhooks = ["http://a.test:81/x", "https://b.test"]\n'
        'hook_secret = "k"\nscratch_days = 0\nrender_hours = 1.5\nquiet_minutes = 10\nsettle_s = 3\npoll_s = 0.5\n'
        "min_free_gb = 0\n"
    )
    variables = {
        "XDG_CONFIG_HOME": str(tmp_path / "none"),
        "SCAIL2_FARM": "/show/farm",
        "SCAIL2_LEDGER": "~/ledger",
        "SCAIL2_WORKERS": "2",
        "SCAIL2_HOOKS": " http://a.test:81/x  https://b.test ",
        "SCAIL2_HOOK_SECRET": "k",
        "SCAIL2_SCRATCH_DAYS": "0",
        "SCAIL2_RENDER_HOURS": "1.5",
        "SCAIL2_QUIET_MINUTES": "10",
        "SCAIL2_SETTLE_S": "3",
        "SCAIL2_POLL_S": "0.5",
        "SCAIL2_MIN_FREE_GB": "0",
    }
    settings = load_settings(environment=file)
    assert settings == load_settings(environment=variables)
    assert settings.farm == Path("/show/farm")
    assert settings.ledger == Path.home() / "ledger"
    assert settings.hooks == ("http://a.test:81/x", "https://b.test")
    assert (settings.workers, settings.render_hours, settings.settle_s) == (2, 1.5, 3.0)


def test_an_empty_variable_is_not_set(tmp_path):
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "SCAIL2_WORKERS": "", "SCAIL2_HOOKS": "", "SCAIL2_SETTINGS": ""}
    assert load_settings(environment=environment) == Settings()


def test_no_configuration_folder_is_no_fault():
    assert load_settings(environment={"XDG_CONFIG_HOME": "/dev/null"}) == Settings()


@pytest.mark.parametrize("text", ["weights = ", 'weight = "/x"', "weights = 3"])
def test_bad_settings_are_named(written, text):
    with pytest.raises(SettingsInvalid):
        load_settings(environment=written(text))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("weights = 3", "`weights` must be a path, or `miniature`, not 3"),
        ('tier = "q5"', "`tier` must be q4, q8 or bf16, not 'q5'"),
        ('farm = ""', "`farm` must be the path of a folder, not ''"),
        ('farm = "~nobody-of-that-name/f"', "`farm` must be the path of a folder"),
        ("ledger = 1", "`ledger` must be the path of a folder on a local disk, not 1"),
        ("workers = 0", "`workers` must be a whole number from 1, not 0"),
        ("workers = true", "`workers` must be a whole number from 1, not True"),
        ("workers = 1.5", "`workers` must be a whole number from 1, not 1.5"),
        ("scratch_days = -1", "`scratch_days` must be a number of days from 0, not -1"),
        ("scratch_days = inf", "`scratch_days` must be a number of days from 0, not inf"),
        ("render_hours = 0", "`render_hours` must be a number of hours above 0, not 0"),
        ("quiet_minutes = nan", "`quiet_minutes` must be a number of minutes above 0, not nan"),
        ("poll_s = false", "`poll_s` must be a number of seconds above 0, not False"),
        ("hooks = 3", "`hooks` must be addresses that open with http"),
        ('hook_secret = ""', "`hook_secret` must be a text that is not empty"),
        ("weight = 1", "`weight`: there is no such setting"),
    ],
)
def test_a_key_of_the_file_is_named_with_what_it_must_be(written, line, what):
    environment = written(line)
    with pytest.raises(SettingsInvalid) as fault:
        load_settings(environment=environment)
    assert fault.value.what.startswith(what)
    assert fault.value.where.file == environment["SCAIL2_SETTINGS"]


@pytest.mark.parametrize(
    "address",
    [
        "ftp://a.test/x",
        "a.test/x",
        "http://",
        "http:///x",
        "http://a.test:99999",
        "http://a.test:0",
        "http://u:p@a.test",
        "http://a.test/#top",
        "http://ä.test",
        "http://[a",
        "file:///etc/passwd",
        "http://a.test/\x07",
    ],
)
def test_hooks_are_addresses_that_can_be_posted_to(tmp_path, address):
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "SCAIL2_HOOKS": f"https://good.test {address}"} | SIGNED
    with pytest.raises(SettingsInvalid) as fault:
        load_settings(environment=environment)
    assert fault.value.what.startswith("SCAIL2_HOOKS must be addresses that open with http:// or https://")
    assert fault.value.what.endswith(f"not {address!r}")
    assert fault.value.where.file is None


def test_hooks_need_a_secret_and_are_named_once(tmp_path):
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "SCAIL2_HOOKS": "http://a.test http://a.test"}
    with pytest.raises(SettingsInvalid, match="SCAIL2_HOOK_SECRET"):
        load_settings(environment=environment)
    with pytest.raises(SettingsInvalid, match="once"):
        load_settings(environment=environment | SIGNED)


def test_every_fault_is_told_with_where_it_was_said(written):
    environment = written("workers = 0\nquiet = 3\n") | {"SCAIL2_POLL_S": "soon"}
    with pytest.raises(SettingsInvalid) as fault:
        load_settings(environment=environment, render_hours=-1)
    assert set(fault.value.what.split("; ")) == {
        "`workers` must be a whole number from 1, not 0",
        "`quiet`: there is no such setting",
        "SCAIL2_POLL_S must be a number of seconds above 0, not 'soon'",
        "--render-hours must be a number of hours above 0, not -1",
    }
    assert "quiet_minutes" in fault.value.fix


def test_the_secret_is_never_told(written):
    with pytest.raises(SettingsInvalid) as fault:
        load_settings(environment=written("hook_secret = 12345\nworkers = 0"))
    assert "12345" not in str(fault.value)
    assert "s3cret" not in repr(Settings(hook_secret="s3cret"))


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(SettingsInvalid, match="not there"):
        load_settings(environment={"SCAIL2_SETTINGS": str(tmp_path / "none.toml")})


def test_a_file_that_is_none_is_named(tmp_path):
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        load_settings(environment={"SCAIL2_SETTINGS": str(tmp_path)})


def test_a_tier_is_one_of_the_weights_it_is_said_with(written, tmp_path):
    named = written('weights = "/toml"\ntier = "q8"\n')
    assert load_settings(environment=named).tier == "q8"
    assert load_settings(environment=named | {"SCAIL2_TIER": "q4"}).tier == "q4"
    assert load_settings(environment=named | {"SCAIL2_TIER": "q4"}, tier="bf16").tier == "bf16"
    assert load_settings(environment=named, weights="/flag").tier is None, "it was said of other weights"
    assert load_settings(environment=named | {"SCAIL2_WEIGHTS": "/env"}).tier is None
    assert load_settings(environment=named | {"SCAIL2_WEIGHTS": "/env", "SCAIL2_TIER": "q4"}).tier == "q4"
    assert load_settings(environment=named, weights="/flag", tier="q4").tier == "q4"
    assert load_settings(environment={"XDG_CONFIG_HOME": str(tmp_path)}, tier="q4").tier == "q4"


def snapshot(folder: Path, *, config: str = "{}") -> Path:
    """A snapshot as far as its files go, and its config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SNAPSHOT_FILES:
        (folder / name).touch()
    (folder / "config.json").write_text(config)
    return folder


def packed(bits: int) -> str:
    return f'{{"quantization": {{"bits": {bits}, "group_size": 64}}}}'


def test_a_root_of_tiers_asks_for_one_of_them(tmp_path):
    for tier, bits in (("q4", 4), ("q8", 8)):
        snapshot(tmp_path / tier, config=packed(bits))
    with pytest.raises(WeightsMissing, match=r"holds tiers \(q4, q8\), and none is named") as fault:
        check_weights(str(tmp_path))
    assert "--tier q4, SCAIL2_TIER or `tier` in the settings file" in fault.value.fix
    assert f"--weights {tmp_path / 'q4'} or {tmp_path / 'q8'}" in fault.value.fix
    assert check_weights(str(tmp_path), tier="q8") == tmp_path / "q8"
    with pytest.raises(WeightsMissing, match=r"holds tiers \(q4, q8\), not bf16"):
        check_weights(str(tmp_path), tier="bf16")


def test_the_only_tier_need_not_be_named(tmp_path):
    q8 = snapshot(tmp_path / "q8", config=packed(8))
    assert check_weights(str(tmp_path)) == q8
    with pytest.raises(WeightsMissing, match=r"holds tiers \(q8\), not q4"):
        check_weights(str(tmp_path), tier="q4")


def test_a_tier_that_is_not_whole_is_named(tmp_path):
    (snapshot(tmp_path / "q8", config=packed(8)) / "clip.safetensors").unlink()
    with pytest.raises(WeightsMissing, match=r"clip\.safetensors not found") as fault:
        check_weights(str(tmp_path), tier="q8")
    assert fault.value.where.file == str(tmp_path / "q8")


@pytest.mark.parametrize(("config", "own"), [("{}", "bf16"), (packed(4), "q4"), (packed(8), "q8")])
@pytest.mark.parametrize("asked", ["q4", "q8", "bf16"])
def test_a_flat_snapshot_is_of_the_tier_that_is_asked_for(tmp_path, config, own, asked):
    folder = snapshot(tmp_path / "flat", config=config)
    assert check_weights(str(folder)) == folder
    if asked == own:
        assert check_weights(str(folder), tier=asked) == folder
        return
    with pytest.raises(WeightsMismatch, match=f"{asked} was asked for, and the weights folder holds {own} alone"):
        check_weights(str(folder), tier=asked)


@pytest.mark.parametrize("config", ["", "[]", '{"quantization": 4}', '{"quantization": {"bits": [4]}}', packed(3)])
def test_a_config_that_says_no_tier_is_left_to_who_loads_it(tmp_path, config):
    assert check_weights(str(snapshot(tmp_path / "odd", config=config)), tier="q8") == tmp_path / "odd"


def test_the_built_in_snapshot_has_a_tier_too():
    assert check_weights("miniature", tier="bf16") == check_weights("miniature")
    with pytest.raises(WeightsMismatch, match="q8 was asked for, and the weights folder holds bf16 alone"):
        check_weights("miniature", tier="q8")
