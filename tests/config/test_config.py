"""The contract of streamae.config: every mistake is named by place, value and remedy, and secrets never leak.

The annotated example and the schema say what is true of the code.
"""

import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streamae.config import json_schema, load
from streamae.config.check import check, fits
from streamae.config.reload import applicable, changes
from streamae.config.rules import warnings
from streamae.config.settings import Settings
from streamae.config.units import duration_text, parse_duration, parse_size, size_text
from streamae.core.align_rule import GridAlign, RowAlign
from streamae.core.calibration import Calibration
from streamae.core.decode import PayloadSpec
from streamae.core.filters import overlap
from streamae.core.flapping import FlapRule
from streamae.core.formats import FORMATS
from streamae.core.profile import Profile
from streamae.daemon.build import batch_wait_s
from streamae.errors import ArtifactError, ConfigError

HERE = Path(__file__).parents[1]
INVALID = sorted((HERE / "config").glob("invalid-*.yaml"))
EXAMPLE = HERE.parent / "deploy" / "streamae.yaml"
MINIMAL = """
streams:
  pumps:
    topics: [{topic: "plant/{line}/{pump}/{channel}"}]
    model: {path: pumps.pt}
"""


def write(folder: Path, text: str, name: str = "streamae.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def profile(*channels: str, gap_max_s: float = 10.0) -> Profile:
    return Profile("d" * 64, channels, 32, 1.0, gap_max_s, 300, {}, Calibration.none())


@pytest.mark.parametrize(
    ("said", "strides", "wait_s"),
    [("auto", (1,), 0.05), ("auto", (2, 3), 0.1), ("auto", (8,), 0.2), ("auto", (8, 1), 0.05), ("30ms", (8,), 0.03)],
)
def test_a_batch_fills_the_longer_the_less_often_rows_are_scored(tmp_path: Path, said: str, strides, wait_s: float):
    """By default; the group that scores most often decides, and what the operator says holds."""
    groups = [
        f'  g{n}: {{topics: [{{topic: "{n}/{{pump}}/{{channel}}"}}], model: {{path: x.pt}}, stride: {stride}}}\n'
        for n, stride in enumerate(strides)
    ]
    settings = load(write(tmp_path, f"inbox: {{batch_wait: {said}}}\nstreams:\n{''.join(groups)}"), environ={})
    assert batch_wait_s(settings) == pytest.approx(wait_s)


def test_there_are_at_least_thirty_broken_configs():
    assert len(INVALID) >= 30


@pytest.mark.parametrize("path", INVALID, ids=lambda p: p.stem.removeprefix("invalid-"))
def test_a_broken_config_gives_exactly_the_line_that_its_first_comment_pins(path: Path):
    *most, last = FORMATS
    expected = path.read_text().splitlines()[0].removeprefix("# ")
    expected = expected.replace("{every format}", f"{', '.join(most)} or {last}")
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    assert caught.value.exit_code == 78
    message = str(caught.value).replace(str(path), "").replace(str(path.parent), "DIR").removeprefix(":")
    assert message == expected
    assert re.match(r"\d+:\d+: \S.*: got .+; .+", message), "line, column, key, value and remedy are all there"


def test_all_mistakes_are_notified_at_once_in_the_order_of_the_file(tmp_path):
    path = write(tmp_path, "instance: 12\nmqtt: {qos: 2, hots: a, host: '${NOPE}'}\n" + MINIMAL)
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    keys = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert keys == ["instance", "mqtt.qos", "mqtt.hots", "mqtt.host"]


def test_a_file_that_is_missing_or_not_utf8_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "nothing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"instance: \xe9\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path / "latin.yaml")


def test_deep_nesting_is_a_config_error_and_no_recursion_error(tmp_path):
    with pytest.raises(ConfigError, match="nested too deep"):
        load(write(tmp_path, "a: " + "[" * 20_000))


YAMLISH = st.lists(
    st.sampled_from([*":-{}[],&*!|>'\"%@#\n\t ?~0x1e9.", "streams", "<<", "${", "}", "&a", "*a", "\n  "])
)


@hypothesis_settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200) | YAMLISH.map("".join))
@example("a: " + "1" * 5000)
@example("a: 2001-99-99")
@example("? [a]\n: b")
def test_no_text_whatever_raises_anything_but_config_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_bytes(text.encode())
    with pytest.raises(ConfigError):
        load(path, environ={})


def test_defaults_are_enough_beside_a_group(tmp_path):
    settings = load(write(tmp_path, MINIMAL), environ={})
    assert settings.connection.client_id == "streamae-streamae"
    assert [sink.name for sink in settings.sinks] == ["log"]
    assert settings.state.dir == tmp_path / "state", "a default path is relative to the file as well"
    assert settings.streams["pumps"].model.path == tmp_path / "pumps.pt"


def test_settings_are_frozen(tmp_path):
    settings = load(write(tmp_path, MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        settings.instance = "x"
    with pytest.raises(FrozenInstanceError):
        settings.mqtt.port = 1


def test_the_environment_fills_in_values_of_any_type_and_dollars_can_be_escaped(tmp_path):
    text = 'instance: "${NAME}-1"\nmqtt: {port: "${PORT}", username: "$${x}", tls: {insecure: "${YES}"}}\n' + MINIMAL
    settings = load(write(tmp_path, text), environ={"NAME": "hall", "PORT": "8883", "YES": "true"})
    assert settings.instance == "hall-1"
    assert settings.mqtt.port == 8883
    assert settings.mqtt.username == "${x}"
    assert settings.mqtt.tls is not None
    assert settings.mqtt.tls.insecure is True


CANARY = "canary-7f3a"


@pytest.mark.parametrize("source", ["file:secret.txt", "${PW}", "credential:pw"])
def test_a_secret_is_read_from_file_environment_or_credential_and_never_shown(tmp_path, source):
    (tmp_path / "secret.txt").write_text(CANARY + "\n")
    (tmp_path / "pw").write_text(CANARY)
    text = f'mqtt: {{username: me, password: "{source}"}}\nweb: {{token: "{source}"}}\n' + MINIMAL
    text += f'sinks: [{{type: webhook, url: "https://x.example", headers: {{Authorization: "{source}"}}}}]\n'
    settings = load(write(tmp_path, text), environ={"PW": CANARY, "CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert settings.mqtt.password is not None
    assert settings.mqtt.password == CANARY
    assert settings.connection.password == CANARY
    shown = repr(settings) + str(settings) + settings.model_dump_json() + repr(settings.connection)
    assert CANARY not in shown


def test_no_error_message_shows_a_secret(tmp_path):
    (tmp_path / "secret.txt").write_text(CANARY)
    text = f'mqtt: {{password: {CANARY}, host: "${{PW}}", port: "${{PW}}", protocol: 3.1.1}}\n' + MINIMAL
    text += (
        f'sinks: [{{type: webhook, url: "${{PW}}"}}, {{type: webhook, url: {CANARY}, headers: {{token: {CANARY}}}}}]\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), environ={"PW": CANARY})
    assert len(str(caught.value).splitlines()) >= 4
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("text", ["no", "on", "yes", "off"])
def test_words_that_yaml_1_1_takes_for_booleans_are_ordinary_names(tmp_path, text):
    settings = load(write(tmp_path, MINIMAL.replace("pumps:", f"{text}:")))
    assert list(settings.streams) == [text]


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("1s", 1), ("2m", 120), ("1h", 3600), ("7d", 604800), ("2w", 1209600)]
)
def test_durations_are_seconds(text, seconds):
    assert parse_duration(text) == seconds
    assert parse_duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize(("text", "size"), [("64KiB", 65536), ("512MB", 512_000_000), ("1GiB", 2**30), ("7B", 7)])
def test_sizes_are_bytes(text, size):
    assert parse_size(text) == size
    assert size_text(size) == text


@given(st.integers(0, 10**9))
def test_every_duration_and_size_survives_being_written(number):
    assert parse_duration(duration_text(number / 1000)) == pytest.approx(number / 1000)
    assert parse_size(size_text(number)) == number


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1 s", "1S", "1e3s", "inf", "1s1s", "٣s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="unit"):
        parse_duration(text)


LEVELS = st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=4)


@given(LEVELS, LEVELS, st.booleans(), st.booleans())
def test_two_filters_overlap_exactly_when_some_topic_matches_both(left, right, open_left, open_right):
    """Against a naive oracle: all topics over a small alphabet, up to the depth at which new cases end."""
    import itertools

    from paho.mqtt.client import topic_matches_sub

    a = "/".join([*left, "#"] if open_left else left)
    b = "/".join([*right, "#"] if open_right else right)
    topics = ("/".join(t) for n in range(1, 6) for t in itertools.product("abc", repeat=n))
    assert overlap(a, b) == any(topic_matches_sub(a, t) and topic_matches_sub(b, t) for t in topics)


def test_the_example_loads_and_warns_of_nothing_dangerous():
    settings = load(EXAMPLE, environ={})
    assert [key for key, _ in warnings(settings)] == [("streams", "pumps", "topics", 0)]


def uncommented() -> str:
    """The example with every `#key:` line in force."""
    return re.sub(r"(?m)^(\s*)#(?=(- )?[a-z_0-9]+:)", r"\1", EXAMPLE.read_text())


def test_the_example_loads_with_every_key_in_force(tmp_path):
    (tmp_path / "x").mkdir()
    environ = dict.fromkeys(("MQTT_PASSWORD", "STREAMAE_TOKEN", "WEBHOOK_AUTHORIZATION"), "secret")
    text = uncommented().replace("\n        #sample", "\n        sample")
    environ["APPRISE_URL"] = "ntfys://ntfy.example/alerts"
    settings = load(write(tmp_path, text.replace("value: value", "value: value")), environ=environ)
    assert [sink.type for sink in settings.sinks] == ["log", "mqtt", "webhook", "alertmanager", "apprise"]


def schema_keys() -> set[tuple[str, str]]:
    definitions = json_schema()["$defs"] | {"Settings": json_schema()}
    return {(section, key) for section, part in definitions.items() for key in part.get("properties", {})}


PLACES = {  # definition of the schema -> where its keys stand in the example
    "Settings": lambda tree: [tree],
    "State": lambda tree: [tree["state"]],
    "Mqtt": lambda tree: [tree["mqtt"]],
    "Tls": lambda tree: [tree["mqtt"]["tls"]],
    "Inbox": lambda tree: [tree["inbox"]],
    "Scoring": lambda tree: [tree["scoring"]],
    "Web": lambda tree: [tree["web"]],
    "Metrics": lambda tree: [tree["metrics"]],
    "HomeAssistant": lambda tree: [tree["home_assistant"]],
    "Log": lambda tree: [tree["log"]],
    "Group": lambda tree: [tree["streams"]["pumps"]],
    "Topic": lambda tree: tree["streams"]["pumps"]["topics"],
    "Grid": lambda tree: [tree["streams"]["pumps"]["align"]],
    "Alert": lambda tree: [tree["streams"]["pumps"]["alert"]],
    "Health": lambda tree: [tree["streams"]["pumps"]["health"]],
    "Flapping": lambda tree: [tree["streams"]["pumps"]["health"]["flapping"]],
    "Model": lambda tree: [tree["streams"]["pumps"]["model"]],
    "LogSink": lambda tree: [s for s in tree["sinks"] if s["type"] == "log"],
    "MqttSink": lambda tree: [s for s in tree["sinks"] if s["type"] == "mqtt"],
    "WebhookSink": lambda tree: [s for s in tree["sinks"] if s["type"] == "webhook"],
    "OneOff": lambda tree: [w for w in tree["maintenance"] if "from" in w],
    "Recurring": lambda tree: [w for w in tree["maintenance"] if "start" in w],
    "AppriseSink": lambda tree: [s for s in tree["sinks"] if s["type"] == "apprise"],
    "AlertmanagerSink": lambda tree: [s for s in tree["sinks"] if s["type"] == "alertmanager"],
}


def test_the_example_has_every_key_of_the_schema_and_no_other():
    tree = yaml.safe_load(uncommented())
    assert set(PLACES) == {section for section, _ in schema_keys()}
    for section, place in PLACES.items():
        shown = {key for mapping in place(tree) for key in mapping}
        assert shown == {key for name, key in schema_keys() if name == section}, section


def documented_defaults() -> list[tuple[str, str]]:
    """(key, text behind "Default:") of the comment block right above each key."""
    found, comment = [], ""
    for line in EXAMPLE.read_text().splitlines():
        bare = line.strip()
        if bare.startswith("# "):
            comment += " " + bare[2:]
            continue
        key = re.match(r"#?(?:- )?([a-z_0-9]+):", bare)
        default = re.search(r"Default: (.+)$", comment)
        if key and default:
            found.append((key[1], default[1]))
        comment = ""
    return found


def test_every_default_in_the_example_is_the_real_one():
    real: dict[str, set[str]] = {}
    for section, part in (json_schema()["$defs"] | {"Settings": json_schema()}).items():
        del section
        for key, about in part.get("properties", {}).items():
            default = about.get("default")
            text = "none" if default is None else default if isinstance(default, str) else json.dumps(default)
            real.setdefault(key, set()).add(text)
    shown = documented_defaults()
    assert len(shown) > 45
    for key, text in shown:
        if key == "sinks":
            assert text == "[{type: log}]"
        else:
            assert text.split(" (")[0] in real[key], f"{key}: {text} is not among {real[key]}"


def test_every_key_is_described_in_the_schema():
    definitions = json_schema()["$defs"] | {"Settings": json_schema()}
    for section, part in definitions.items():
        for key, about in part.get("properties", {}).items():
            target = definitions.get(about.get("$ref", "").rpartition("/")[2], {})
            assert about.get("description") or target.get("description"), f"{section}.{key}"


def test_the_schema_speaks_only_the_words_of_json_schema():
    assert not re.search(r'"(gt|ge|lt|le)":', json.dumps(json_schema()))


def test_filters_are_subscribed_once(tmp_path):
    text = MINIMAL + '  more:\n    topics: [{topic: "plant/{a}/{b}/{channel}"}]\n    model: {path: x.pt}\n'
    assert load(write(tmp_path, text)).filters == ("plant/+/+/+",)


def test_broker_and_home_assistant_know_the_installation_by_its_name(tmp_path):
    """Two installations on one broker never share a session or a device; a client id that is chosen stands."""
    text = "instance: hall-1\nhome_assistant: {}\n" + MINIMAL
    settings = load(write(tmp_path, text))
    assert settings.connection.client_id == "streamae-hall-1"
    assert settings.discovery.instance == "hall-1"
    assert load(write(tmp_path, "mqtt: {client_id: me}\n" + text)).connection.client_id == "me"
    assert load(write(tmp_path, MINIMAL)).discovery is None


def test_a_group_becomes_what_the_pipeline_takes(tmp_path):
    text = (
        MINIMAL + "    align: {every: 2s, lateness: 4s}\n    alert: {for: 5s, critical: 3, keep_firing_for: 7s}\n"
        "    false_alarms: 1/week\n    health: {flapping: {times: 2}}\n"
    )
    group = load(write(tmp_path, text)).streams["pumps"]
    core = group.with_model("pumps", profile("flow", gap_max_s=20.0), reconstructor=None)
    assert core.stream_template == "{line}/{pump}"
    assert core.align == GridAlign(every_s=2.0, method="hold", lateness_s=4.0)
    assert core.alert is group.alert
    assert core.health == replace(group.health, keep_s=7.0), "a sensor is well after as long as an alert resolves"
    assert core.flapping == FlapRule(times=2)
    assert (core.alert.for_s, core.alert.critical_ratio) == (5.0, 3.0)
    assert core.false_alarms_per_s == pytest.approx(1 / 604800)


def test_a_group_without_labels_is_one_stream_named_after_it(tmp_path):
    group = load(write(tmp_path, MINIMAL.replace("{line}/{pump}", "all"))).streams["pumps"]
    core = group.with_model("pumps", profile("a"), reconstructor=None)
    assert core.stream_template == "pumps"
    assert core.align == RowAlign()


def test_a_reload_says_what_applies_and_what_waits(tmp_path):
    old = load(write(tmp_path, MINIMAL))
    new = load(
        write(
            tmp_path,
            "mqtt: {host: other}\nlog: {level: debug}\n" + MINIMAL + "    stride: 2\n    alert: {for: 9s}\nsinks: []\n",
        )
    )
    assert changes(old, old) == []
    assert [str(line) for line in changes(old, new)] == [
        "mqtt.host: takes effect at the next restart",
        "log.level: applied",
        "streams.pumps.stride: takes effect at the next restart",
        "streams.pumps.alert.for: applied",
        "sinks: applied",
    ]
    live = applicable(old, new)
    assert (live.mqtt, live.streams["pumps"].stride) == (old.mqtt, 1)
    assert (live.log, live.sinks, live.streams["pumps"].alert.for_s) == (new.log, (), 9.0)
    assert [str(line) for line in changes(live, new)] == [str(c) for c in changes(old, new) if c.restart]


def test_a_changed_secret_is_a_change_whose_line_does_not_show_it(tmp_path):
    text = 'mqtt: {password: "${PW}"}\n' + MINIMAL
    old, new = (load(write(tmp_path, text), environ={"PW": value}) for value in ("one", CANARY))
    assert [str(line) for line in changes(old, new)] == ["mqtt.password: takes effect at the next restart"]


def test_check_says_for_each_topic_what_it_would_do(tmp_path):
    text = MINIMAL + "    align: {every: 1s}\n"
    lines = check(write(tmp_path, text), lambda group: profile("flow", "pressure"))
    said = "\n".join(lines)
    assert "subscribes to plant/+/+/+" in said
    assert "one of flow, pressure" in said
    assert "rows every 1s (hold)" in said
    assert "stream <line>/<pump>" in said
    assert "warning: streams.pumps.topics[0]" in said
    assert "Home Assistant" not in said
    shown = check(
        write(tmp_path, "home_assistant: {max_devices: 7}\n" + text), lambda group: profile("flow", "pressure")
    )
    assert "Home Assistant: at most 7 streams as devices on homeassistant/device/streamae_streamae/+/config" in shown


def test_check_tries_every_model_before_it_fails(tmp_path):
    def refuse(group):
        raise ArtifactError(f"{group.model.path} is missing; train it")

    text = MINIMAL + '  more:\n    topics: [{topic: "x/{a}/{channel}"}]\n    model: {path: x.pt}\n'
    with pytest.raises(ArtifactError) as caught:
        check(write(tmp_path, text), refuse)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "streams.pumps.model",
        "streams.more.model",
    ]


@pytest.mark.parametrize(
    ("topic", "rest", "channels", "word"),
    [
        ('{topic: "a/{p}", payload: json, values: {flow: f, heat: h}}', "", ("flow",), "got heat"),
        ('{topic: "a/{p}", payload: json, values: {flow: f}}', "", ("flow", "heat"), "no path for heat"),
        ('{topic: "a/{p}/{channel}"}', "", ("flow", "heat"), "align"),
        ('{topic: "a/{p}"}', "", ("flow", "heat"), "put {channel} into the topic"),
        ('{topic: "a/{p}/{channel}"}', "    align: {every: 1h}\n", ("flow",), "own period, 1s"),
    ],
)
def test_a_group_that_its_model_cannot_serve_is_refused(tmp_path, topic, rest, channels, word):
    text = f"streams:\n  pumps:\n    topics: [{topic}]\n    model: {{path: p.pt}}\n{rest}"
    path = write(tmp_path, text)
    assert word in "\n".join(fits("pumps", load(path).streams["pumps"], profile(*channels)))
    with pytest.raises(ConfigError, match=r"streams\.pumps"):
        check(path, lambda group: profile(*channels))


def test_a_bad_config_costs_no_import_of_torch():
    code = (
        "import sys\nfrom streamae.config.check import check\nfrom streamae.errors import ConfigError\n"
        f"try:\n    check({str(INVALID[0])!r})\nexcept ConfigError:\n    print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def feeds_of_the_guide() -> list[str]:
    """Every block of deploy/README.md's section on feeds."""
    section = (EXAMPLE.parent / "README.md").read_text().split("## Feeds")[1].split("\n## ")[0]
    return re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)


def test_each_section_of_the_example_stands_under_its_own_comment():
    """A comment of the annotated configuration belongs to the key right below it, and no section goes without."""
    lines = EXAMPLE.read_text().splitlines()
    keys = [(n, line.split(":")[0].strip("#")) for n, line in enumerate(lines) if re.match(r"#?[a-z_]+:", line)]
    above = {key: lines[n - 1] for n, key in keys}
    assert set(above) == set(Settings.model_fields)
    assert [key for key, comment in above.items() if not comment.startswith("# ")] == []
    assert "page" in above["web"]


def test_every_block_of_the_guide_loads(tmp_path):
    """What is not in the guide has its example in deploy/docs/formats.md, which the formats' own contract tries."""
    shown = set()
    for block in feeds_of_the_guide():
        settings = load(write(tmp_path, block), environ={})
        shown |= {topic.kind for group in settings.streams.values() for topic in group.topics}
        assert check(tmp_path / "streamae.yaml", None)
    assert len(shown) >= 7


def test_a_group_of_sparkplug_listens_to_its_edge_nodes(tmp_path):
    """Births and deaths of the nodes, and the numbers of all of their messages, come without being named."""
    settings = load(write(tmp_path, next(block for block in feeds_of_the_guide() if "Motor/Speed" in block)))
    assert settings.filters == ("spBv1.0/+/+/+/+", "spBv1.0/+/+/+")
    core = settings.streams["fans"].with_model("fans", profile("flow", "speed"), reconstructor=None)
    assert [spec.listens for spec in core.payloads] == [False, True, True]


def test_every_key_of_a_topic_reaches_the_decoder(tmp_path):
    """What a topic says of its payload is in the payload spec: no key is read and then forgotten."""
    topics = [
        "topic: 'p/{host}', payload: json, values: {a: x}, time: t, time_unit: ms, sequence: n",
        "topic: 'p/{host}', payload: json, values: {a: x}, samples: r, sample_every: 2s",
        "topic: 'p/{channel}', payload: json, value: y, words: {open: 1}, decimal: ',', unit: m, max_points: 7",
        "topic: 'p', payload: json, samples: $, id: n, quality: q, good: ['0']",
        "topic: 'p', payload: influx, labels: {host: h}, where: {site: s}",
        "topic: 'p', payload: senml, name: '{host}:{channel}'",
        "topic: 'p/{host}', payload: tasmota, time_zone: UTC",
    ]
    changed = set()
    for topic in topics:
        path = write(tmp_path, f"streams: {{pumps: {{topics: [{{{topic}}}], model: {{path: pumps.pt}}}}}}")
        (spec,) = load(path).streams["pumps"].topics
        plain = PayloadSpec(spec.kind)
        changed |= {f.name for f in fields(PayloadSpec) if getattr(spec, f.name) != getattr(plain, f.name)}
    assert changed == {f.name for f in fields(PayloadSpec)} - {"kind", "listens"}
