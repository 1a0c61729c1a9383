// One stream from near: its score, its channels with the reconstruction laid over, who is to blame, its alerts.

import { showCards } from "./alerts.js";
import { expected, get } from "./api.js";
import { askChange } from "./changes.js";
import { Chart, ChartGroup } from "./charts.js";
import { badge, el, select, setOptions, text } from "./dom.js";
import { count, duration, moment, number, percent } from "./format.js";
import { progress, showLabelled, streamHash } from "./overview.js";
import { Past } from "./past.js";
import { askSilence, silenceNote } from "./silences.js";

const CHANNELS_MAX = 8;
const YEAR_S = 365 * 86400;
const SCORE = [{ label: "score", colour: "accent", width: 1.8 }, { label: "threshold", colour: "bad", width: 1.2, dash: [5, 4] }];
const CHANNEL = [
  { label: "measured", colour: "trace", width: 2.2 },
  { label: "reconstruction", colour: "accent", width: 1.6 },
  { label: "forecast", colour: "forecast", width: 2.4 },
];

const LENGTHS = [
  ["128", "Last 128 rows"], ["512", "Last 512 rows"], ["2048", "All rows in memory"],
  ["900s", "Last 15 minutes"], ["3600s", "Last hour"], ["21600s", "Last 6 hours"], ["86400s", "Last day"], ["604800s", "Last week"],
];
const CHOSEN = ["chosen", "The time chosen"];

/** A stream's page; with `from` and `until` (seconds, event time) it opens on that part of its past. */
export function streamPage(group, stream, from, until) {
  const charts = new ChartGroup();
  const score = charts.add(new Chart(charts, { lines: SCORE, height: 190, label: "Score and threshold over time", floor: 0 }));
  const head = el("p", { class: "facts" });
  const labels = el("p", { class: "labels" });
  const note = el("p", { class: "empty", hidden: true });
  const then = el("p", { class: "note then", role: "status", hidden: true });
  const panels = el("div", { class: "panels" });
  const shares = el("ol", { class: "shares" });
  const blame = el("h2", {}, "Share of the error");
  const alerts = el("div", { class: "cards" });
  const more = el("button", { type: "button", class: "quiet more", hidden: true, on: { click: () => { limit = Infinity; refresh(); } } });
  const shown = new Map(); // channel -> {chart, root, ...}
  const past = new Past(group, stream, { draw: drawPast, note: tellThen });
  let rows = "512";
  let limit = CHANNELS_MAX;
  let asking = false;
  let closed = false;
  let state = null;
  let newest = null; // event time of the last row
  let oldest = Infinity; // and of the first that is in memory

  const silence = el("button", { type: "button", class: "quiet", hidden: true, on: { click: async () => {
    if (await askSilence({ group, stream, rule: null })) refresh();
  } } }, "Silence …");
  const changed = el("button", { type: "button", class: "quiet", hidden: true, title: "Learn again, rename, remove", on: { click: async () => {
    const now = await askChange({ group, stream, newest: newest ?? state?.time_s });
    if (now === null) return;
    if (now === stream) refresh();
    else location.hash = now === "" ? "#/" : streamHash(group, now, []);
  } } }, "Changed on purpose …");
  const length = select("Length of history", LENGTHS, rows, (value) => {
    if (value === CHOSEN[0]) return;
    if (value.endsWith("s")) {
      const end = newest ?? state?.time_s ?? Date.now() / 1000;
      charts.show([end - parseInt(value, 10), end]);
    } else {
      rows = value;
      charts.show(null);
      refresh();
    }
    setOptions(length, LENGTHS, value);
  });

  const root = el("section", {},
    el("p", { class: "crumbs" }, el("a", { href: "#/" }, "Streams"), " / ", group),
    el("h1", {}, stream), labels, head, note,
    el("div", { class: "tools" }, charts.buttons(["Live", "Show what is in memory, as it comes"]), length, silence, changed,
      el("span", { class: "muted hint" }, "drag over a chart to zoom; − and ‹ go back as far as the journal does")),
    then,
    el("div", { class: "pair" },
      el("div", { class: "panel" }, el("h2", {}, "Score"), legend([...SCORE, { label: "alert", colour: "shade", block: true }]), score.root),
      el("div", { class: "panel side" }, blame, shares)),
    el("h2", {}, "Channels"), legend([...CHANNEL, { label: "alert", colour: "shade", block: true }]), panels, more,
    el("h2", {}, "Alerts of this stream"), alerts);

  charts.zoomed = (zoom) => {
    // What is in memory in full needs no journal.
    const asked = zoom !== null && (past.span !== null || zoom[0] < oldest) ? zoom : null;
    setOptions(length, zoom === null ? LENGTHS : [...LENGTHS, CHOSEN], zoom === null ? rows : CHOSEN[0]);
    history.replaceState(null, "", streamHash(group, stream, asked ?? []));
    past.ask(asked);
    if (asked === null) refresh();
  };
  if (Number(from) < Number(until)) charts.show([Number(from), Number(until)]);

  async function refresh() {
    if (asking || closed) return;
    asking = true;
    try {
      const found = await get("stream", { group, stream, rows: past.span ? 1 : rows });
      if (!closed) draw(found);
    } catch (error) {
      expected(error);
      if (!closed && error.status) tell(error.status === 404 ? "There is no such stream (yet)." : error.message);
    } finally {
      asking = false;
    }
  }

  function tell(words) {
    text(note, words);
    note.hidden = words === "";
  }

  function tellThen(words, reading) {
    text(then, words);
    then.hidden = words === "";
    root.classList.toggle("reading", reading);
  }

  function draw(found) {
    silence.hidden = changed.hidden = state?.read_only ?? true;
    head.replaceChildren(badge(found.state), found.silence ? el("span", { class: "badge silenced", title: silenceNote(found.silence) }, silenceNote(found.silence)) : "", ...(found.marks ?? []).map(badge),
      fact("score", number(found.score)), fact("threshold", number(found.threshold)), found.limit?.windows ? fact("held by", held(found.limit)) : "",
      fact("worst channel", found.worst_channel ?? "–"), fact("last window", moment(found.time_s)));
    drawLabels(found.labels);
    const lacks = progress(found);
    if (found.unjudged) tell(notJudged(found.unjudged));
    else if (lacks) {
      const window = found.score === null ? "Filling its first window" : "Filling its window again, after a gap";
      const what = found.state === "learning" ? "Learning what is normal here" : window;
      head.append(el("progress", { max: found.rows_needed, value: found.rows, "aria-label": `${found.state}: rows` }));
      tell(`${what}: ${lacks}. Until then nobody knows whether it is well.`);
    } else tell("");
    newest = found.history.time_s.at(-1) ?? newest;
    charts.reach = newest === null ? null : [past.begins ?? newest - YEAR_S, newest];
    if (past.span === null) {
      oldest = found.history.time_s[0] ?? Infinity;
      drawCharts(found.history, found.alerts);
      text(blame, "Share of the error");
    }
    showCards(alerts, found.alerts.slice(0, 20), { readOnly: state?.read_only ?? true, done: refresh, none: "None.", linked: false });
  }

  function drawLabels(given) {
    const said = JSON.stringify(given);
    if (labels.dataset.drawn === said) return;
    labels.dataset.drawn = said;
    labels.replaceChildren(...Object.entries(given).map(([name, value]) =>
      el("button", { type: "button", class: "label", title: `Streams with ${name}=${value}`, on: { click: () => showLabelled(name, value) } }, `${name}=${value}`)));
  }

  function drawPast(found) {
    charts.reach = newest === null || past.begins === null ? charts.reach : [past.begins, newest];
    drawCharts(found.history, found.alerts);
    text(blame, "Share of the error, at the highest score");
  }

  function drawCharts({ verdicts, channels, time_s }, during) {
    const spans = during.map((a) => [a.onset_s, a.closed_s]);
    score.set([verdicts.time_s, verdicts.score, verdicts.threshold], spans);
    drawShares(channels);
    drawChannels(channels, time_s, spans);
  }

  function drawShares(channels) {
    const worst = [...channels].sort((a, b) => b.share - a.share).slice(0, 12);
    shares.replaceChildren(...worst.map((c) => {
      const bar = el("span", { class: "fill" });
      bar.style.width = `${100 * c.share}%`;
      return el("li", {}, el("span", { class: "name" }, c.name), el("span", { class: "track" }, bar), el("span", { class: "right" }, percent(c.share)));
    }));
  }

  function drawChannels(channels, times, spans) {
    if (shown.size < Math.min(limit, channels.length)) {
      const chosen = new Set([...channels].sort((a, b) => b.share - a.share).slice(0, limit).map((c) => c.name));
      for (const { name } of channels) if (chosen.has(name) && !shown.has(name)) shown.set(name, channelPanel(charts, name));
      panels.replaceChildren(...channels.filter((c) => shown.has(c.name)).map((c) => shown.get(c.name).root));
    }
    more.hidden = shown.size >= channels.length;
    text(more, `Show all ${channels.length} channels`);
    for (const channel of channels) shown.get(channel.name)?.set(times, channel, spans);
  }

  return {
    root, title: stream,
    update(next) { state = next; refresh(); },
    close() { closed = true; past.close(); charts.close(); },
  };
}

function fact(name, value) {
  return el("span", {}, el("span", { class: "muted" }, `${name} `), el("b", {}, value));
}

function legend(lines) {
  return el("p", { class: "legend", "aria-hidden": "true" }, ...lines.map((line) =>
    el("span", {}, el("i", { class: `key ${line.colour}${line.dash ? " dashed" : ""}${line.block ? " block" : ""}` }), line.label)));
}

function channelPanel(charts, name) {
  const chart = charts.add(new Chart(charts, { lines: CHANNEL, height: 150, label: `${name} over time` }));
  const value = el("span", { class: "muted" });
  const root = el("div", { class: "panel" }, el("h3", {}, el("span", {}, name), value), chart.root);
  return {
    root,
    set(times, channel, spans) {
      const none = times.map(() => null);
      chart.set([times, channel.values, channel.reconstruction ?? none, channel.forecast ?? none], spans);
      const last = channel.values.at(-1);
      text(value, channel.target ? number(last) : `${number(last)} · context`);
      root.classList.toggle("blamed", channel.share >= 0.5);
      chart.root.setAttribute("aria-label", `${name} over time: now ${number(last)}, ${percent(channel.share)} of the error`);
    },
  };
}

/** Since when and why a stream that is heard is not judged. */
function notJudged({ since_s: since, words }) {
  return `Not judged ${since === null ? "so far" : `since ${moment(since)}`}: ${words}. Nobody knows whether it is well.`;
}

/** Which limit holds an alert, where that is not the threshold of the score. */
function held({ windows, over, since_s: since, ends_s: ends }) {
  const from = since === null ? "" : ` since ${moment(since)}`;
  return `the average over ${count(windows)} windows, ${number(over)} times its limit${from}; ends about ${duration(ends)} after the scores are as usual`;
}
