import pytest

from scail2_farm.errors import SettingsInvalid
from scail2_farm.settings import load_settings


def test_defaults_toml_environment_flag(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text('weights = "/toml"\n')
    named = {"SCAIL2_SETTINGS": str(file)}
    assert load_settings(environment={"XDG_CONFIG_HOME": str(tmp_path)}).weights is None
    assert load_settings(environment=named).weights == "/toml"
    assert load_settings(environment=named | {"SCAIL2_WEIGHTS": "/env"}).weights == "/env"
    assert load_settings(environment=named | {"SCAIL2_WEIGHTS": "/env"}, weights="/flag").weights == "/flag"


@pytest.mark.parametrize("text", ["weights = ", 'weight = "/x"', "weights = 3"])
def test_bad_settings_are_named(tmp_path, text):
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(SettingsInvalid):
        load_settings(environment={"SCAIL2_SETTINGS": str(file)})


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(SettingsInvalid, match="not there"):
        load_settings(environment={"SCAIL2_SETTINGS": str(tmp_path / "none.toml")})
