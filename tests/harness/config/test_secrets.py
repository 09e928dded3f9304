from urllib.parse import quote

import pytest

from harness.config.secrets import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://alice:SECRET@host:80/x", "http://alice:***@host:80/x"),
        ("postgresql+psycopg://u:SE%40CRET@h/db", "postgresql+psycopg://u:***@h/db"),
        ("postgresql://u:SE/CR:ET@h/db", "postgresql://u:***@h/db"),
        ("http://alice:SE@CRET@host", "http://alice:***@host"),
        ("https://:SECRET@host", "https://:***@host"),
        ("https://SECRET@host/x", "https://***@host/x"),
        ("postgresql://user@host/db", "postgresql://user@host/db"),
        ("https://host/x?token=SECRET&b=SECRET#top", "https://host/x?token=***&b=***#top"),
        ("https://host/x#access_token=SECRET", "https://host/x#access_token=***"),
        ("postgresql://h/db?user=a&password=SECRET", "postgresql://h/db?user=***&password=***"),
        ("sqlite:////tmp/what?mode=ro/study.db", "sqlite:////tmp/what?mode=ro/study.db"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("at 'http://a:SECRET@b' or http://c:SECRET@d.", "at 'http://a:***@b' or http://c:***@d."),
        ("--set a=b@c", "--set a=b@c"),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown


def test_a_password_by_itself_is_masked_where_its_url_is_known() -> None:
    url = "postgresql://u:SE%40CRET@h/db"
    assert masked("no user u with SE@CRET (SE%40CRET)", url) == "no user u with *** (***)"
    assert masked("no user u", url, None) == "no user u"
    assert masked("token abcdef is wrong", "https://h/?token=abcdef") == "token *** is wrong"


@pytest.mark.parametrize("password", ["SE CRET", "SE'CRET", 'SE"CRET', "SE<CRET>", "SE/CR@ET"])
def test_the_password_of_a_given_url_may_hold_any_letter(password: str) -> None:
    url = f"http://alice:{password}@host:80/x"
    assert masked(url, url) == "http://alice:***@host:80/x"
    assert masked(f"--storage={url}", f"--storage={url}") == "--storage=http://alice:***@host:80/x"
    assert masked(f"no answer of {url}; {quote(password)}", url).count("***") == 2


def test_pieces_of_a_password_that_a_library_shows_are_masked() -> None:
    url = "postgresql://u:FIRST/NEXT@LAST@host/db"
    assert masked("no host NEXT@LAST@host", url) == "no host ***@host"
    assert masked("'FIRST' is no port", url) == "'***' is no port"


def test_a_given_url_without_a_scheme() -> None:
    url = "alice:SECRET@host:80/x"
    assert masked(f"cannot read {url}", url) == "cannot read alice:***@host:80/x"


def test_what_is_too_short_to_be_told_from_other_words_stays() -> None:
    assert masked("a message", "http://u:a@h") == "a message"
