"""The live page as a person meets it: a real Chromium, the real web server, and for one test the real daemon.

`STREAMAE_SHOTS=folder` keeps the screenshots. The strict policy forbids `eval`, so waiting is done with locators.
"""

import os
import re
import shutil
import time
from pathlib import Path

import pytest

from streamae.web.app import Access, create_app
from streamae.web.server import WebServer
from tests import brokers
from tests.brokers import free_port, wait_until
from tests.page_world import CHANNELS, TIME_S, XSS, Fleet

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
expect = playwright.expect
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync"
)
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 860}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "has_touch": True},
}
TOKEN = "sesame-öffne"
SICK = "line1/pump0008"
PLACES = {
    "overview": "#/", "stream": "#/stream/pumps/line1%2Fpump0008", "alerts": "#/alerts", "models": "#/models",
}  # fmt: skip
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield started
        started.close()


@pytest.fixture
def serve():
    """Give a maker of served fleets: `serve(view, token)` returns the address of the page."""
    started = []

    def make(view, token=TOKEN):
        app = create_app(view, Access(token=token))
        started.append(WebServer(app, "127.0.0.1", 0, on_stop=app.state.events.close))
        started[-1].start()
        return f"http://127.0.0.1:{started[-1].port}/"

    make.servers = started
    yield make
    for server in started:
        server.stop(10)


@pytest.fixture
def open_page(browser):
    """Give a maker of pages that fail the test for a console error, a script error or a request off the host."""
    contexts, wrong = [], []

    def make(url, tolerate="", **look):
        context = browser.new_context(**(look or LOOKS["light"]))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        host = url.split("/")[2]

        def note(kind, words):
            if not (tolerate and re.search(tolerate, words)):
                wrong.append(f"{kind}: {words}")

        page.on("console", lambda said: said.type in ("error", "warning") and note("console", said.text))
        page.on("pageerror", lambda error: note("script", str(error)))
        page.on("request", lambda asked: asked.url.split("/")[2] != host and note("request off the host", asked.url))
        page.goto(url)
        return page

    yield make
    for context in contexts:
        context.close()
    assert wrong == []


def names(page):
    """The streams in sight, from the top."""
    lines = page.locator(".place:not([hidden]) a.line").all()
    placed = [(line.bounding_box()["y"], line.locator(".name").inner_text()) for line in lines]
    return [name for _, name in sorted(placed)]


def inked(page, selector):
    """How many colours a chart's canvas has: one or two of an empty one."""
    return page.locator(selector).first.evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )


def shoot(page, name, tmp_path):
    folder = Path(os.environ.get("STREAMAE_SHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page="overview" not in name)


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_shows_itself_in_light_in_dark_and_on_a_phone(look, serve, open_page, tmp_path):
    """Nothing overflows to the side, every chart is drawn, and the page is as dark as the system wants it."""
    fleet = Fleet()
    base = serve(fleet)
    fleet.fire(SICK)
    fleet.resolve(fleet.fire("line2/pump0021", 1.4))
    page = open_page(base, **LOOKS[look])
    expect(page.locator("#state")).to_contain_text("connected")
    expect(page.locator("#state")).to_contain_text("40 streams")
    for name, place in PLACES.items():
        page.goto(base + place)
        if name == "overview":
            expect(page.locator("a.line .name").first).to_be_visible()
            heights = page.locator(".place:not([hidden])").evaluate_all(
                "all => all.map(p => p.getBoundingClientRect().y)"
            )
            assert min(b - a for a, b in zip(sorted(heights), sorted(heights)[1:], strict=False)) >= 44
        if name in ("stream", "models"):
            expect(page.locator(".chart canvas").first).to_be_visible()
            wait_until(lambda: inked(page, ".chart canvas") > 5, 20, f"the chart of {name} stays empty")
        if name == "stream":
            expect(page.locator(".panels .chart canvas")).to_have_count(len(CHANNELS))
            expect(page.locator(".panel.blamed h3")).to_contain_text("pressure")
        if name == "alerts":
            expect(page.locator("article.card")).to_have_count(2)
        assert page.evaluate("document.documentElement.scrollWidth") <= LOOKS[look]["viewport"]["width"]
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == (look == "dark"), ground
        shoot(page, f"{name}-{look}", tmp_path)


def test_a_pump_that_breaks_rises_to_the_top_and_its_alert_appears_without_reload(serve, open_page):
    fleet = Fleet()
    page = open_page(serve(fleet))
    expect(page.locator("a.line .name").first).to_be_visible()
    assert names(page)[0] != SICK
    expect(page.locator("#firing")).to_be_hidden()
    fleet.fire(SICK)
    expect(page.locator("#firing")).to_have_text("1")
    wait_until(lambda: names(page)[0] == SICK, 20, "the broken pump is not at the top")
    top = page.locator("a.line[data-state=firing]")
    expect(top).to_contain_text("pressure")
    page.get_by_role("link", name=re.compile("Alerts")).click()
    expect(page.locator("article.card.open")).to_contain_text(SICK)
    fleet.fire("line4/pump0011")
    expect(page.locator("article.card.open")).to_have_count(2)


def test_sensor_faults_and_quarantine_are_counted_sorted_up_and_found(serve, open_page):
    """In the header's number, in the badge of Alerts, on top of the list, by a filter, and on Alerts."""
    fleet = Fleet()
    fleet.marks = {17: ["stuck: pressure"], 23: ["quarantined"], 30: ["maintenance"]}
    fleet.tick()
    page = open_page(serve(fleet))
    expect(page.locator("#firing")).to_have_text("2")
    expect(page.locator("#state")).to_contain_text("2 firing (1 sensor fault, 1 in quarantine)")
    wait_until(lambda: {name[-2:] for name in names(page)[:2]} == {"17", "23"}, 20, "they are not at the top")
    page.get_by_role("link", name=re.compile("Alerts")).click()
    expect(page.get_by_role("heading", name="Not judged")).to_be_visible()
    page.get_by_role("button", name="Show them").click()
    expect(page.locator(".place:not([hidden])")).to_have_count(2)
    expect(page.get_by_label("State", exact=True)).to_have_value("trouble")
    page.get_by_label("State", exact=True).select_option("")
    expect(page.locator(".found")).to_have_text("40 streams")


def test_an_alert_is_acknowledged_and_marked_as_false_alarm(serve, open_page):
    """The token is asked for once; a wrong one is refused in words, and asked for again."""
    fleet = Fleet()
    alert = fleet.fire(SICK)
    page = open_page(serve(fleet) + "#/alerts", tolerate="401")
    card = page.locator("article.card")
    card.get_by_label("Note").fill("bearing <b>worn</b>")
    card.get_by_role("button", name="Acknowledge").click()
    page.locator("#token-value").fill("wrong")
    page.get_by_role("button", name="Use it").click()
    expect(card.get_by_role("alert")).to_contain_text("token")
    assert fleet.acts == []
    card.get_by_role("button", name="Acknowledge").click()
    page.locator("#token-value").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(card).to_contain_text("Acknowledged")
    expect(card).to_contain_text("bearing <b>worn</b>")
    expect(card.get_by_role("button", name="Acknowledge")).to_be_disabled()
    card.get_by_role("button", name="False alarm").click()
    expect(card).to_contain_text("Marked as false alarm")
    assert [act[:2] for act in fleet.acts] == [(alert, "acknowledge"), (alert, "false-alarm")]
    assert fleet.acts[0][2] == "bearing <b>worn</b>"


def test_an_alert_is_silenced_and_the_silence_is_ended(serve, open_page, tmp_path):
    """From its card, by keyboard: the stream is named exactly, the card and the list say so, "End now" ends it."""
    fleet = Fleet(12, learning=0)
    fleet.names[8] = "line1/[8]*"
    fleet.tick()
    fleet.fire("line1/[8]*")
    fleet.fire("line2/pump0001")
    page = open_page(serve(fleet) + "#/alerts")
    card = page.locator("article.card").filter(has_text="line1/[8]*")
    expect(page.get_by_role("region", name="Silences")).to_be_hidden()
    card.get_by_role("button", name="Silence …").focus()
    page.keyboard.press("Enter")
    page.get_by_label("How long").select_option("28800")
    page.get_by_label("Your name").fill("ada <i>")
    page.get_by_label("Why").fill("bearing <b>worn</b>")
    shoot(page, "silence-dialog", tmp_path)
    page.keyboard.press("Enter")
    page.locator("#token-value").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(card).to_contain_text("Silenced until")
    expect(card).to_contain_text("by ada <i>: “bearing <b>worn</b>”")
    expect(card).to_have_class(re.compile("quieted"))
    expect(card.get_by_role("button", name="Silence …")).to_have_count(0)
    made = fleet.silences()[0]
    assert (made["group"], made["stream"], made["rule"]) == ("pumps", "line1/[[]8][*]", "anomaly")
    assert made["ends_s"] - made["starts_s"] == 28800
    lines = page.get_by_role("region", name="Silences").get_by_role("listitem")
    expect(lines).to_have_count(1)
    expect(lines).to_contain_text("pumps / line1/[[]8][*], rule anomaly")
    shoot(page, "alerts-silenced", tmp_path)
    page.get_by_role("button", name=re.compile("End the silence of")).click()
    expect(page.get_by_role("region", name="Silences")).to_be_hidden()
    expect(card.get_by_role("button", name="Silence …")).to_be_visible()


def test_each_rule_says_in_words_what_it_has_found(serve, open_page):
    """An anomaly by who carries the error, a verdict on a sensor by what was measured, in its own unit."""
    fleet = Fleet()
    said = {
        "anomaly": "score 6.5 over 1 · peak 6.5 · pressure carries 80 % of the error",
        "stuck": "pressure: more than 200 equal values", "stale": "nothing heard for more than 5 min",
        "out_of_range": "pressure: 18.2, its limit is 16", "flapping": "began 7 times",
    }  # fmt: skip
    numbers = {"stuck": (200, 200), "stale": (300, 300), "out_of_range": (18.2, 16), "flapping": (7, 6)}
    for rule in said:
        fleet.fire(SICK)
        if rule in numbers:
            score, threshold = numbers[rule]
            worst = "pressure" if rule in ("stuck", "out_of_range") else ""
            fleet._alerts[0] |= {"rule": rule, "score": score, "threshold": threshold, "worst_channel": worst}
    fleet.resolve(fleet.fire("line4/pump0011"))
    page = open_page(serve(fleet) + "#/alerts")
    expect(page.locator("article.card")).to_have_count(6)
    shown = [card.locator("p").first.inner_text() for card in page.locator("article.card").all()]
    for rule, words in said.items():
        assert any(words in text for text in shown), (rule, shown)
    assert "(42 s) · peak 6.5 · pressure carried 80 % of the error when it began" in shown[-1]


def test_a_stream_is_silenced_from_its_page(serve, open_page, tmp_path):
    """Whatever its rule; a declined token makes nothing, Escape makes nothing; then the page says until when."""
    fleet = Fleet()
    page = open_page(serve(fleet) + PLACES["stream"])
    button = page.get_by_role("button", name="Silence …")
    button.click()
    page.keyboard.press("Escape")
    button.click()
    page.get_by_role("button", name="Silence", exact=True).click()
    page.locator("#token-cancel").click()
    expect(page.locator("#token")).to_be_hidden()
    assert fleet.silences() == []
    page.get_by_role("button", name="Silence", exact=True).click()
    page.locator("#token-value").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator(".facts .badge.silenced")).to_contain_text("Silenced until")
    assert [(s["stream"], s["rule"]) for s in fleet.silences()] == [(SICK, "*")]


def test_a_stream_that_was_changed_on_purpose_learns_again_or_has_a_new_name(serve, open_page, tmp_path):
    """From its page: what it learns from is a choice, a new name takes the page along, Escape changes nothing."""
    fleet = Fleet()
    page = open_page(serve(fleet) + PLACES["stream"])
    button = page.get_by_role("button", name="Changed on purpose …")
    button.click()
    expect(page.get_by_label("New name")).to_be_hidden()
    shoot(page, "change-dialog", tmp_path)
    page.keyboard.press("Escape")
    assert fleet.changes == []
    button.click()
    page.get_by_label("Learn from").select_option("21600")
    page.get_by_role("button", name="Change", exact=True).click()
    page.locator("#token-value").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("dialog.ask")).to_have_count(0)
    (wanted, since_s) = fleet.changes[0]
    assert (wanted.kind, wanted.group, wanted.stream) == ("relearn", "pumps", SICK)
    assert 0 <= TIME_S - since_s < 22000
    button.click()
    page.get_by_label("What to do").select_option("rename")
    page.get_by_label("New name").fill("line9/pump <b>")
    page.get_by_role("button", name="Change", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("line9/pump <b>")
    assert [(c.kind, c.name) for c, _ in fleet.changes[1:]] == [("rename", "line9/pump <b>")]


def test_a_false_alarm_can_be_taken_back(serve, open_page):
    fleet = Fleet()
    fleet.resolve(fleet.fire(SICK))
    page = open_page(serve(fleet) + "#/alerts")
    card = page.locator("article.card")
    expect(card).to_contain_text("peak 6.5")
    card.get_by_role("button", name="False alarm").click()
    page.locator("#token-value").fill(TOKEN)
    page.keyboard.press("Enter")
    card.get_by_role("button", name="Not a false alarm").click()
    expect(card.get_by_role("button", name="False alarm", exact=True)).to_be_visible()
    assert [act[1] for act in fleet.acts] == ["false-alarm", "withdraw-feedback"]


def test_without_a_token_the_page_says_that_it_is_read_only(serve, open_page):
    fleet = Fleet()
    fleet.fire(SICK)
    page = open_page(serve(fleet, token=None) + "#/alerts")
    expect(page.locator("main")).to_contain_text("Read-only")
    expect(page.locator("article.card")).to_have_count(1)
    expect(page.locator("article.card button")).to_have_count(0)


FRAMES = """async (steps) => {
  const list = document.querySelector('.lines'), frames = [];
  const far = list.scrollHeight - list.clientHeight;
  let last = await new Promise(requestAnimationFrame);
  for (let i = 1; i <= steps; i += 1) {
    list.scrollTop = far * i / steps;
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - last);
    last = now;
  }
  return frames.sort((a, b) => a - b);
}"""


def test_five_thousand_streams_scroll(serve, open_page):
    """From the first to the last of 5,000 with a few dozen lines in the document; frame times are printed."""
    fleet = Fleet(5000, learning=50)
    page = open_page(serve(fleet))
    expect(page.locator(".found")).to_have_text("5 000 streams")
    frames = page.evaluate(FRAMES, 240)
    wait_until(lambda: len(names(page)) > 10 and all(names(page)), 20, "lines stay empty at the end")
    at = {q: frames[min(int(q * len(frames)), len(frames) - 1)] for q in (0.5, 0.95, 0.99, 1)}
    print(f"\n5,000 streams, 240 frames end to end: median {at[0.5]:.1f} ms, 95 % {at[0.95]:.1f} ms, "
          f"99 % {at[0.99]:.1f} ms, longest {at[1]:.1f} ms")  # fmt: skip
    last = page.locator(".place[aria-posinset='5000']")
    expect(last).to_be_visible()
    expect(last).to_contain_text("learning")
    assert page.locator(".place").count() < 100
    page.locator("input[type=search]").fill("pump0042")
    expect(page.locator(".found")).to_have_text("1 stream")
    assert names(page) == ["line3/pump0042"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("l/\u202egnp", "l/\\u{202e}gnp"), ("pump\u200b1", "pump\\u{200b}1"),
        ("a\u2066b\u2069", "a\\u{2066}b\\u{2069}"),
        ("x\u00ad\U000e0041", "x\\u{ad}\\u{e0041}"), ("Zähler 1 \u05d0\u05d1", "Zähler 1 \u05d0\u05d1"),
    ],
)  # fmt: skip
def test_what_has_no_shape_of_its_own_is_seen_in_a_name(serve, open_page, name, shown):
    """Marks of direction and of no width would let one stream be read as another; letters of any script stay."""
    fleet = Fleet(8, learning=0)
    fleet.names[0] = name
    base = serve(fleet)
    fleet.fire(name)
    page = open_page(base)
    wait_until(lambda: names(page)[:1] == [shown], 20, "the name is not at the top")
    page.locator("a.line").first.click()
    expect(page.locator("h1")).to_have_text(shown)
    assert page.title() == f"{shown} · streamae"


def test_a_topic_full_of_markup_stays_text(serve, open_page):
    """As a line, as a stream's page, as an alert: the name is shown as it is, and none of it becomes an element."""
    fleet = Fleet(8, learning=0, xss=True)
    base = serve(fleet)
    fleet.fire(XSS)
    page = open_page(base)
    wait_until(lambda: names(page)[:1] == [XSS], 20, "the name is not at the top as it is")
    page.locator("a.line").filter(has_text="onerror").click()
    expect(page.locator("h1")).to_have_text(XSS)
    expect(page.locator(".panels .chart canvas")).to_have_count(len(CHANNELS))
    page.get_by_role("link", name=re.compile("Alerts")).click()
    expect(page.locator("article.card")).to_contain_text(XSS)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script").count() == 0


def test_everything_can_be_reached_with_the_keyboard(serve, open_page):
    """Arrows walk through the lines, End leads to the last one, Enter opens it; the page then holds the focus."""
    fleet = Fleet(300, learning=0)
    page = open_page(serve(fleet))
    expect(page.locator("a.line .name").first).to_be_visible()
    page.get_by_label("Order").select_option("name")
    expect(page.locator(".place[aria-posinset='1']")).to_contain_text("line1/pump0000")
    page.get_by_label("Order").focus()
    page.keyboard.press("Tab")
    focused = page.locator("a.line:focus")
    expect(focused).to_contain_text("line1/pump0000")
    page.keyboard.press("ArrowDown")
    expect(focused).to_contain_text("line1/pump0004")
    page.keyboard.press("End")
    expect(focused).to_contain_text("line4/pump0299")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("line4/pump0299")
    expect(page.locator(".panels .chart canvas")).to_have_count(len(CHANNELS))
    nameless = page.locator("button, a, input, select, [role=img]").evaluate_all(
        "all => all.filter(e => e.checkVisibility()).filter(e => !e.getAttribute('aria-label'))"
        ".filter(e => !(e.textContent.trim() || e.closest('label'))).map(e => e.outerHTML)"
    )
    assert nameless == []


def test_time_is_zoomed_by_dragging_and_by_buttons(serve, open_page):
    """A drag over one chart zooms all of them, new rows do not end it, and "Live" does."""
    fleet = Fleet()
    page = open_page(serve(fleet) + PLACES["stream"])
    over = page.locator(".panels .u-over").first
    expect(over).to_be_visible()
    whole = page.get_by_role("button", name="Show what is in memory, as it comes")
    expect(whole).to_be_disabled()
    before = page.locator(".chart canvas").first.evaluate("c => c.toDataURL()")
    box = over.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 40, steps=4)
    page.mouse.up()
    expect(whole).to_be_enabled()
    assert page.locator(".chart canvas").first.evaluate("c => c.toDataURL()") != before
    fleet.tick()
    time.sleep(0.6)  # the next event has come and gone
    expect(whole).to_be_enabled()
    whole.click()
    expect(whole).to_be_disabled()
    page.get_by_role("button", name="Zoom in").click()
    expect(whole).to_be_enabled()


def test_time_is_zoomed_further_back_than_memory_reaches(serve, open_page, tmp_path):
    """By buttons, keys and lengths; what the journal lacks, and at what resolution it is drawn, is said."""
    fleet = Fleet()
    page = open_page(serve(fleet) + PLACES["stream"])
    expect(page.locator(".panels .chart canvas")).to_have_count(len(CHANNELS))
    then, live = page.locator(".note.then"), page.get_by_role("button", name="Show what is in memory, as it comes")
    expect(live).to_be_disabled()
    page.get_by_role("button", name="Earlier").click()
    expect(then).to_contain_text("From the journal")
    assert fleet.pasts[-1][0] < TIME_S - 0.2 * 512 < fleet.pasts[-1][1] < TIME_S + 3
    expect(then).to_contain_text("One window in 3 is scored")
    expect(then).not_to_contain_text("nothing older")
    page.get_by_label("Length of history").select_option("86400s")
    expect(then).to_contain_text("nothing older is kept")
    expect(then).to_contain_text("12 pieces, evenly spread")
    expect(then).to_contain_text("Each point stands for")
    assert fleet.pasts[-1][1] - fleet.pasts[-1][0] == pytest.approx(86400)
    expect(then).to_contain_text(re.compile("From the journal: .*8:13:20"))  # what there is fills the charts
    expect(page.locator("section.reading")).to_have_count(0)
    assert inked(page, ".panels .chart canvas") > 5
    shoot(page, "stream-past", tmp_path)
    page.get_by_role("button", name="Later").focus()
    asked = len(fleet.pasts)
    for key in ("ArrowUp", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    wait_until(lambda: len(fleet.pasts) > asked, 20, "keys do not zoom")
    expect(then).to_contain_text("From the journal")
    wait_until(
        lambda: fleet.pasts[-1][1] - fleet.pasts[-1][0] == pytest.approx(5400, abs=2), 20, "a quarter of the journal"
    )
    assert len(fleet.pasts) <= asked + 2, "each key was asked for before the choice had settled"
    page.reload()
    expect(then).to_contain_text("From the journal")
    fleet.tick()
    page.keyboard.press("Tab")
    live.click()
    expect(then).to_be_hidden()
    expect(live).to_be_disabled()
    assert page.url.endswith(PLACES["stream"])


@pytest.mark.parametrize("look", ["light", "phone"])
def test_what_is_special_about_a_stream_stays_within_its_line(look, serve, open_page):
    """A verdict, maintenance, quarantine: in place of "ok", beside any other state, and over nothing else."""
    fleet = Fleet(12, learning=0)
    fleet.marks = {
        1: ["maintenance"],
        2: ["stuck: temperature"],
        3: ["quarantined"],
        8: ["flapping", "stuck: pressure"],
    }
    fleet.fire(SICK)
    page = open_page(serve(fleet), **LOOKS[look])
    page.get_by_label("Order").select_option("name")
    expect(page.locator(".place[aria-posinset='1']")).to_contain_text("pump0000")
    said = {}
    for line in page.locator(".place:not([hidden]) a.line").all():
        badges, own, spark = line.locator(".badge").all(), line.bounding_box(), line.locator(".spark").bounding_box()
        said[line.locator(".name").inner_text()[-2:]] = [badge.inner_text() for badge in badges]
        boxes = [badge.bounding_box() for badge in badges]
        assert all(own["y"] <= b["y"] and b["y"] + b["height"] <= own["y"] + own["height"] for b in boxes)
        for b, next_to in zip(boxes, [*boxes[1:], spark], strict=True):
            assert b["x"] + b["width"] <= next_to["x"] or b["y"] + b["height"] <= next_to["y"] + 1, said
        assert line.locator(".name").bounding_box()["width"] > 60
    assert (said["00"], said["01"], said["02"]) == (["ok"], ["maintenance"], ["stuck: temperature"])
    assert said["08"] == ["firing", "flapping", "stuck: pressure"]


def test_a_stream_that_fills_its_first_window_says_so(serve, open_page):
    """How many rows of how many, and about how long; not green, no context, no time where there is none to show."""
    fleet = Fleet(6, learning=1, filling=1)
    page = open_page(serve(fleet))
    filling, learning = fleet.names[0], fleet.names[5]
    line = page.locator("a.line", has_text=filling)
    expect(line.locator(".badge")).to_have_text("filling")
    expect(line).to_contain_text("9 of 16 rows, about 56 min")
    expect(page.locator("a.line", has_text=learning).locator(".badge")).to_have_text("learning")
    expect(page.locator("a.line", has_text=fleet.names[1]).locator(".badge")).to_have_text("ok")
    expect(page.locator("#state")).to_contain_text("1 filling")
    page.get_by_label("State", exact=True).select_option("filling")
    expect(page.locator(".found")).to_have_text("1 stream")
    page.locator(".place[aria-posinset='1'] a.line").click()
    expect(page.locator(".empty").first).to_contain_text("Filling its first window: 9 of 16 rows, about 56 min.")
    progress = page.locator("progress")
    assert (progress.get_attribute("value"), progress.get_attribute("max")) == ("9", "16")
    expect(page.locator(".panels .chart canvas")).to_have_count(4)
    assert "context" not in page.locator(".panels").inner_text()
    drawn = page.evaluate(
        """async () => {
            const { ChartGroup, Chart } = await import("/static/charts.js");
            const group = new ChartGroup(), said = () => group.clocks(null, [0, 30, 60]);
            const empty = said();
            group.add(new Chart(group, { lines: [], height: 9, label: "" })).columns = [[5, 6]];
            return [empty, said().every((word) => word !== "")];
        }"""
    )
    assert drawn == [["", "", ""], True]


def test_streams_are_found_by_their_labels(serve, open_page):
    """By label=value in the search, beside a part of the name; and from a stream's label to all that share it."""
    page = open_page(serve(Fleet()))
    search = page.get_by_role("searchbox")
    search.fill("pump00 line=line2")
    expect(page.locator(".found")).to_have_text("10 streams")
    search.fill('pump="pump0008"')
    expect(page.locator(".found")).to_have_text("1 stream")
    page.locator(".place[aria-posinset='1'] a.line").click()
    expect(page.locator("h1")).to_have_text(SICK)
    page.get_by_role("button", name="line=line1").click()
    expect(page.locator(".found")).to_have_text("10 streams")
    expect(search).to_have_value("line=line1")


def test_an_alert_leads_to_what_it_was_then(serve, open_page):
    """From its card to the time about it; while the journal is being read for others, the page asks again."""
    fleet = Fleet()
    fleet.busy = 1
    fleet.resolve(fleet.fire(SICK))
    page = open_page(serve(fleet) + "#/alerts", tolerate="503")
    onset_s = fleet.alerts(None, 1)[0]["onset_s"]
    page.get_by_role("link", name="show that time").click()
    expect(page.locator("h1")).to_have_text(SICK)
    expect(page.locator(".note.then")).to_contain_text("for other pages")
    expect(page.locator(".note.then")).to_contain_text("From the journal")
    assert fleet.pasts == [(pytest.approx(onset_s - 120), pytest.approx(onset_s + 42 + 120))] * 2
    expect(page.locator(".panels .chart canvas")).to_have_count(len(CHANNELS))


def test_a_finger_zooms_as_the_mouse_does(serve, open_page):
    """Sideways over a chart; up and down the page scrolls."""
    page = open_page(serve(Fleet()) + PLACES["stream"], **LOOKS["phone"])
    over = page.locator(".chart .u-over").first
    expect(over).to_be_visible()
    live = page.get_by_role("button", name="Show what is in memory, as it comes")
    expect(live).to_be_disabled()
    over.scroll_into_view_if_needed()
    box, touch = over.bounding_box(), page.context.new_cdp_session(page)
    y = box["y"] + 40

    def drag(dx, dy):
        for i in range(6):
            kind = "touchStart" if i == 0 else "touchMove"
            at = {"x": box["x"] + 60 + dx * i, "y": y + dy * i}
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [at]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    drag(0, -12)
    time.sleep(0.3)
    expect(live).to_be_disabled()
    box = over.bounding_box()
    y = box["y"] + 40
    drag(25, 0)
    expect(live).to_be_enabled()


def test_the_theme_can_be_switched_and_is_remembered(serve, open_page):
    page = open_page(serve(Fleet(4)))
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def failing(kind, name, what, reason, failures=1):
    found = {"kind": kind, "name": name, "what": what, "reason": reason}
    return found | {"since_s": TIME_S - 600, "failures": failures}


def test_what_must_be_mended_is_shown_on_every_page(serve, open_page, tmp_path):
    """What fails, why, how often; not what the reasons say already, nothing once it works, and only as text."""
    fleet = Fleet()
    page = open_page(serve(fleet))
    expect(page.locator("#state")).to_contain_text("connected")
    expect(page.locator("#conditions")).to_be_hidden()
    fleet.reasons = ["not connected: refused: bad password"]
    fleet.conditions = [
        failing("broker", "b:1883", "nothing is heard from broker b:1883", "refused: bad password"),
        failing("sink", "ops", "sink ops delivers nothing", f"answered 401 {XSS}", 14),
    ]
    fleet.sinks = [
        {"name": "log", "state": "ok", "since_s": None, "reason": None, "attempts": 0, "waiting": 0, "oldest_s": None,
         "dead": 0},
        {"name": "ops", "state": "failing", "since_s": TIME_S - 600, "reason": f"answered 401 {XSS}", "attempts": 14,
         "waiting": 3, "oldest_s": TIME_S - 600, "dead": 2},
    ]  # fmt: skip
    fleet.tick()
    for place in PLACES.values():
        page.evaluate(f"location.hash = '{place}'")
        expect(page.locator("#conditions li")).to_have_count(1)
        expect(page.locator("#conditions li")).to_contain_text(f"sink ops delivers nothing: answered 401 {XSS} since")
        expect(page.locator("#conditions li")).to_contain_text("14 times")
    page.evaluate("location.hash = '#/alerts'")
    expect(page.locator(".sinks li")).to_have_count(2)
    expect(page.locator(".sinks li").nth(0)).to_have_text("oklog nothing waits")
    for words in ("failing", "3 waiting, the oldest for 10 min", "2 refused for good", "14 failures: answered 401"):
        expect(page.locator(".sinks li").nth(1)).to_contain_text(words)
    shoot(page, "conditions", tmp_path)
    fleet.reasons, fleet.conditions = [], []
    fleet.tick()
    expect(page.locator("#conditions")).to_be_hidden()


def test_a_page_that_lost_its_daemon_says_so(serve, open_page):
    """A reason not to be ready is shown in words; a daemon that is gone too."""
    fleet = Fleet(4)
    page = open_page(serve(fleet), tolerate="Failed to load|ERR_")
    expect(page.locator("#state")).to_contain_text("connected")
    fleet.reasons = ["connected, but no message has arrived for 61 s"]
    fleet.tick()
    expect(page.locator("#reasons")).to_contain_text("no message has arrived for 61 s")
    assert serve.servers[0].stop(10)
    expect(page.locator("#reasons")).to_contain_text("lost the daemon")


CONFIG = """\
instance: plant-1
state: {{dir: state}}
mqtt: {{host: 127.0.0.1, port: {broker}}}
web: {{listen: "127.0.0.1:{page}", token: "${{PAGE_TOKEN}}"}}
streams:
  pumps:
    topics:
      - {{topic: "plant/{{line}}/{{pump}}", payload: json, time: t}}
    stream: "{{line}}-{{pump}}"
    model: {{path: {model}, sha256: {sha256}}}
    alert: {{for: 0s, keep_firing_for: 5s}}
"""


@pytest.mark.skipif(brokers.MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto")
def test_the_page_of_the_real_daemon_shows_a_real_fault(tmp_path, mosquitto, trained, open_page):
    """Broker, daemon, model: a pump breaks; it rises, its reconstruction is laid over, and a false alarm is kept."""
    from tests.models import pump_rows
    from tests.services import Daemon, Feed

    port = free_port()
    config = CONFIG.format(broker=mosquitto.port, page=port, model=trained.path, sha256=trained.sha256)
    daemon = Daemon(tmp_path, config, port, env={"PAGE_TOKEN": TOKEN}).start()
    daemon.wait_for("/readyz")
    feed = Feed(mosquitto.port, pump_rows(1200)[0], rows_per_s=16.0)
    try:
        feed.history(300)
        feed.start()
        page = open_page(f"http://127.0.0.1:{port}/")
        sick = feed.plant.names[1].replace("/", "-")
        expect(page.locator("a.line")).not_to_have_count(0)
        feed.inject("drift", feed.plant.names[1], 12.0, 400.0)
        expect(page.locator("#firing")).to_be_visible(timeout=60_000)
        wait_until(lambda: names(page)[0] == sick, 30, "the broken pump is not at the top")
        page.locator(".place[aria-posinset='1'] a.line").click()
        expect(page.locator("h1")).to_have_text(sick)
        expect(page.locator(".panels .chart canvas")).to_have_count(4)
        near = page.request.get(
            f"http://127.0.0.1:{port}/api/v1/stream", params={"group": "pumps", "stream": sick}
        ).json()
        rebuilt = [c["reconstruction"] for c in near["history"]["channels"]]
        assert all(sum(v is not None for v in column) > 0.8 * len(column) for column in rebuilt)
        foreseen = near["history"]["channels"][0]["forecast"]
        assert foreseen[-1] is not None
        assert foreseen[0] is None
        shoot(page, "stream-real", tmp_path)
        page.get_by_label("Length of history").select_option("900s")
        expect(page.locator(".note.then")).to_contain_text("From the journal")
        expect(page.locator("section.reading")).to_have_count(0)
        wait_until(lambda: inked(page, ".panels .chart canvas") > 5, 20, "the past stays empty")
        shoot(page, "stream-past-real", tmp_path)
        alert = near["alerts"][0]["id"]
        card = page.locator(f"article[data-alert='{alert}']")
        card.get_by_role("button", name="False alarm").click()
        page.locator("#token-value").fill(TOKEN)
        page.get_by_role("button", name="Use it").click()
        expect(card).to_contain_text("Marked as false alarm")
        page.goto(f"http://127.0.0.1:{port}/#/models")
        expect(page.locator(".model")).to_contain_text(trained.sha256)
        shoot(page, "models-real", tmp_path)
        page.goto("about:blank")
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log()
    finally:
        feed.stop()
        daemon.kill()
