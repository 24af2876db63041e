"""Who may ask, and who may change something."""

from __future__ import annotations

import stat
from http import HTTPStatus
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from services.web import guarding
from services.web.problems import RequestError
from trainq import files
from trainq.config import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    files.make_directory(made.run)
    return made


def test_the_token_is_made_once_and_for_its_owner_alone(home: Home) -> None:
    token = guarding.token_of(home)
    assert len(token) >= 43
    assert stat.S_IMODE(home.token_file.stat().st_mode) == 0o600
    assert guarding.token_of(home) == token


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 50, "\u00e4".encode() * 50])
def test_what_is_no_token_is_replaced(home: Home, content: bytes) -> None:
    files.write_file(home.token_file, content)
    assert guarding.token_of(home).encode() not in content


def test_a_token_that_others_could_read_is_no_secret_any_more(home: Home) -> None:
    token = guarding.token_of(home)
    home.token_file.chmod(0o640)
    assert guarding.token_of(home) != token
    assert stat.S_IMODE(home.token_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("shown", [None, "", "Bearer", "Bearer ", "Bearer secret2", "Bearer secre", "Basic secret",
                                   "secret", "Bearer \xff"])
def test_nothing_but_the_token_opens(shown: str | None) -> None:
    with pytest.raises(RequestError) as refused:
        guarding.check_token(Headers({} if shown is None else {"authorization": shown}), "secret")
    assert refused.value.status is HTTPStatus.UNAUTHORIZED
    assert "www-authenticate" in refused.value.headers


@pytest.mark.parametrize("shown", ["Bearer secret", "bearer secret", "Bearer  secret "])
def test_the_token_opens(shown: str) -> None:
    guarding.check_token(Headers({"authorization": shown}), "secret")


@pytest.mark.parametrize("host", ["127.0.0.1:8770", "localhost:8770", "LOCALHOST:8770", "[::1]:8770"])
def test_names_of_this_machine(host: str) -> None:
    guarding.check_host(Headers({"host": host}), 8770)


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost", "localhost:8771", "evil.example:8770", "0.0.0.0:8770",
                                  "127.0.0.1:8770.evil.example", "localhost.:8770", "127.0.0.2:8770", "[::1]"])
def test_a_page_whose_name_was_made_to_point_here_is_refused(host: str) -> None:
    with pytest.raises(RequestError) as refused:
        guarding.check_host(Headers({"host": host}), 8770)
    assert refused.value.status is HTTPStatus.MISDIRECTED_REQUEST


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("headers", [
    {}, {"origin": "http://127.0.0.1:8770"}, {"origin": "http://localhost:8770", "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"}])
def test_programs_and_the_own_page_may_ask(method: str, headers: dict[str, str]) -> None:
    guarding.check_site(method, Headers(headers), 8770)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("headers", [
    {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://localhost:3000"},
    {"origin": "https://127.0.0.1:8770"}, {"origin": "http://127.0.0.1:8770.evil.example"}, {"origin": ""},
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "anything"},
    {"origin": "http://127.0.0.1:8770", "sec-fetch-site": "cross-site"}])
def test_pages_of_other_sites_are_refused(method: str, headers: dict[str, str]) -> None:
    with pytest.raises(RequestError) as refused:
        guarding.check_site(method, Headers(headers), 8770)
    assert refused.value.status is HTTPStatus.FORBIDDEN


def test_a_link_may_be_followed_and_a_form_not_be_sent() -> None:
    followed = Headers({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})
    guarding.check_site("GET", followed, 8770)
    with pytest.raises(RequestError):
        guarding.check_site("POST", followed, 8770)
