"""What a value is after substitution is judged, not what stands in the file; and a file has a bound."""

import os
import threading
from pathlib import Path

import pytest

from streamae.config import load
from streamae.errors import ConfigError
from tests.config.test_config import MINIMAL, write


def refused(folder: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as found:
        load(write(folder, text + MINIMAL), environ=environ)
    assert str(found.value).startswith(f"{folder / 'streamae.yaml'}:")
    return str(found.value)


OPEN = 'web: {listen: "0.0.0.0:9469", token: "${T}"}\n'


@pytest.mark.parametrize("value", ["", " ", "\n", "\t \r\n"])
@pytest.mark.parametrize(
    ("text", "key"),
    [
        (OPEN, "web.token"),
        ('mqtt: {username: u, password: "${T}"}\n', "mqtt.password"),
        ('sinks: [{type: webhook, url: "https://h/", headers: {Authorization: "Bearer ${T}"}}]\n', "Authorization"),
        ('sinks: [{type: webhook, url: "${T}"}]\n', "url"),
    ],
)
def test_a_variable_that_holds_nothing_is_no_secret(tmp_path, text, key, value):
    """Whatever the secret is for: it is named, and nothing is served or sent without it."""
    said = refused(tmp_path, text, T=value)
    assert key in said
    assert "set the environment variable T: it is empty" in said


@pytest.mark.parametrize("value", [" abc ", "a\nb", "a\tb", "a\x00b", "\u202eabc"])
def test_a_token_that_no_client_could_show_is_refused(tmp_path, value):
    """The header of a request has no line ends, and loses the spaces around its value."""
    assert "web.token: got '${T}'; use a secret of one line" in refused(tmp_path, OPEN, T=value)
    (tmp_path / "t").write_text(value)
    assert "web.token: got 'file:t'; use a secret of one line" in refused(tmp_path, OPEN.replace("${T}", "file:t"))


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_line_ends_behind_a_secret_are_none_of_it(tmp_path, end):
    """A file, a pipe or an orchestrator leaves one there; from a variable as from a file."""
    (tmp_path / "t").write_text(f"abc{end}")
    for source in ("${T}", "file:t"):
        path = write(tmp_path, OPEN.replace("${T}", source) + MINIMAL)
        token = load(path, environ={"T": f"abc{end}"}).web.token
        assert token is not None
        assert token.get_secret_value() == "abc"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.8.9.10", True), ("localhost", True), ("[::1]", True), ("0.0.0.0", False),
        ("[::]", False), ("localhost.example.com", False), ("127.example.com", False), ("[::1:2]", False),
        ("db", False),
    ],
)  # fmt: skip
def test_only_what_cannot_be_reached_from_elsewhere_is_served_without_a_token(tmp_path, host, loopback):
    """A name that only begins like one of this machine's own is another's."""
    text = f'web: {{listen: "{host}:9469"}}\n'
    if loopback:
        assert load(write(tmp_path, text + MINIMAL), environ={}).web.loopback
    else:
        assert "set web.token" in refused(tmp_path, text)
        assert "set web.token" in refused(tmp_path, 'web: {listen: "${L}"}\n', L=f"{host}:9469")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://user:hunter2@host/path", "an address; holds a user or password"),
        ("https://hunter2@host/path", "an address; holds a user or password"),
        ("https://host/hun ter2", "an address; not an http:// or https:// address"),
        ("https://host/hunter2\nx", "an address; write http://host/path or https://host/path on one line"),
        ("https://host/hunter2\u20ac", "an address; not an http:// or https:// address"),
        ("https://host:99999/hunter2", "an address; not an http:// or https:// address"),
        ("https:///hunter2", "an address; not an http:// or https:// address"),
        ("ftp://host/hunter2", "another scheme; write a url"),
    ],
)
def test_a_url_that_cannot_be_posted_to_is_refused_with_its_place(tmp_path, url, said):
    """By `check` as by `run`, with line, key and what to do; and without the address, which may be a secret."""
    for source in ("${U}", "file:u"):
        (tmp_path / "u").write_text(url)
        found = refused(tmp_path, f'sinks: [{{type: webhook, url: "{source}"}}]\n', U=url)
        assert f":1:30: sinks[0].url: got {said}" in found
        assert "hunter2" not in found


def test_a_file_far_too_large_is_refused_unread(tmp_path):
    """Twenty megabytes of comments take YAML half a minute; a device never ends."""
    large = write(tmp_path, "# comment\n" * 2_000_000 + MINIMAL)
    for path in (large, Path("/dev/zero")):
        with pytest.raises(ConfigError, match=r":1:1: \(file\): got more than 1 MiB"):
            load(path, environ={})


def test_a_configuration_may_come_through_a_pipe(tmp_path):
    """As shells make one: `streamae check -c <(…)`."""
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    thread = threading.Thread(target=lambda: pipe.write_text(MINIMAL), daemon=True)
    thread.start()
    assert "pumps" in load(pipe, environ={}).streams
    thread.join(30)


@pytest.mark.parametrize(
    "topic", ["x", "{pump}", "a/b/{n}", "spBv1.0", "spBv1.0/{g}/+", "spBv1.0/{g}/NDATA/{n}", "spBv1.0/{g}/+/{n}/#"]
)
def test_a_topic_that_is_none_of_sparkplug_is_refused_in_words(tmp_path, topic):
    """However few levels it has."""
    text = f'streams: {{pumps: {{topics: [{{topic: "{topic}", payload: sparkplug}}], model: {{path: m.pt}}}}}}'
    with pytest.raises(ConfigError, match=r"write spBv1.0/\{group\}/\+/\{node\}"):
        load(write(tmp_path, text), environ={})
