"""The `[api]` table: on TCP there is no REST API without TLS and a token."""

import pytest

from casarray.core.config_file import load_config
from casarray.core.errors import ConfigError

WHOLE = {
    "listen": "10.11.0.5:8443",
    "certificate": "/etc/casarray/api.pem",
    "key": "/etc/casarray/api.key",
    "token_file": "/etc/casarray/api.token",
}


def text(**keys: str) -> str:
    return "[api]\n" + "\n".join(f'{name} = "{value}"' for name, value in keys.items())


def test_by_itself_the_api_is_on_the_control_socket_alone() -> None:
    assert load_config("").api.listen == ""


def test_with_tls_and_a_token_it_listens() -> None:
    api = load_config(text(**WHOLE)).api
    assert (api.listen, api.certificate, api.key, api.token_file) == tuple(WHOLE.values())


@pytest.mark.parametrize("missing", ["certificate", "key", "token_file"])
def test_without_any_of_them_it_is_refused_with_what_to_set(missing: str) -> None:
    keys = {name: value for name, value in WHOLE.items() if name != missing}
    with pytest.raises(ConfigError, match=rf":2: api\.listen: without {missing}, whoever .*; set {missing} as well"):
        load_config(text(**keys))


def test_everything_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match="set certificate, key, token_file as well"):
        load_config(text(listen="127.0.0.1:8443"))


def test_files_without_an_address_wait_for_one() -> None:
    keys = {name: value for name, value in WHOLE.items() if name != "listen"}
    assert load_config(text(**keys)).api.listen == ""


def test_the_metrics_address_cannot_be_the_apis() -> None:
    with pytest.raises(ConfigError, match="serves the metrics already"):
        load_config('[gateway]\nmetrics = "10.11.0.5:8443"\n' + text(**WHOLE))
