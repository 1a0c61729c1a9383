// One stream from near: its score, its channels with the reconstruction laid over, who is to blame, its alerts.

import { showCards } from "./alerts.js";
import { expected, get } from "./api.js";
import { Chart, ChartGroup } from "./charts.js";
import { badge, el, select, text } from "./dom.js";
import { moment, number, percent } from "./format.js";
import { askSilence, told } from "./silences.js";

const CHANNELS_MAX = 8;
const SCORE = [{ label: "score", colour: "accent", width: 1.8 }, { label: "threshold", colour: "bad", width: 1.2, dash: [5, 4] }];
const CHANNEL = [
  { label: "measured", colour: "trace", width: 2.2 },
  { label: "reconstruction", colour: "accent", width: 1.6 },
  { label: "forecast", colour: "forecast", width: 2.4 },
];

export function streamPage(group, stream) {
  const charts = new ChartGroup();
  const score = charts.add(new Chart(charts, { lines: SCORE, height: 190, label: "Score and threshold over time", floor: 0 }));
  const head = el("p", { class: "facts" });
  const note = el("p", { class: "empty", hidden: true });
  const panels = el("div", { class: "panels" });
  const shares = el("ol", { class: "shares" });
  const alerts = el("div", { class: "cards" });
  const more = el("button", { type: "button", class: "quiet more", hidden: true, on: { click: () => { limit = Infinity; refresh(); } } });
  const shown = new Map(); // channel -> {chart, root, ...}
  let rows = "512";
  let limit = CHANNELS_MAX;
  let asking = false;
  let closed = false;
  let state = null;

  const silence = el("button", { type: "button", class: "quiet", hidden: true, on: { click: async () => {
    if (await askSilence({ group, stream, rule: null })) refresh();
  } } }, "Silence …");

  const root = el("section", {},
    el("p", { class: "crumbs" }, el("a", { href: "#/" }, "Streams"), " / ", group),
    el("h1", {}, stream), head, note,
    el("div", { class: "tools" }, charts.buttons(),
      select("Length of history", [["128", "Last 128 rows"], ["512", "Last 512 rows"], ["2048", "All that is kept"]], rows,
        (value) => { rows = value; charts.show(null); refresh(); }),
      silence, el("span", { class: "muted hint" }, "drag over a chart to zoom, double-click to see all")),
    el("div", { class: "pair" },
      el("div", { class: "panel" }, el("h2", {}, "Score"), legend([...SCORE, { label: "alert", colour: "shade", block: true }]), score.root),
      el("div", { class: "panel side" }, el("h2", {}, "Share of the error"), shares)),
    el("h2", {}, "Channels"), legend([...CHANNEL, { label: "alert", colour: "shade", block: true }]), panels, more,
    el("h2", {}, "Alerts of this stream"), alerts);

  async function refresh() {
    if (asking || closed) return;
    asking = true;
    try {
      const found = await get("stream", { group, stream, rows });
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

  function draw(found) {
    const spans = found.alerts.map((a) => [a.onset_s, a.closed_s]);
    silence.hidden = state?.read_only ?? true;
    head.replaceChildren(badge(found.state), found.silence ? el("span", { class: "badge silenced", title: told(found.silence) }, told(found.silence)) : "", ...(found.marks ?? []).map(badge),
      fact("score", number(found.score)), fact("threshold", number(found.threshold)),
      fact("worst channel", found.worst_channel ?? "–"), fact("last window", moment(found.time_s)));
    if (found.state === "learning") {
      head.append(el("progress", { max: found.warmup_rows, value: found.learned_rows, "aria-label": "rows learned" }));
      tell(`Learning what is normal here: ${found.learned_rows} of ${found.warmup_rows} rows. No alerts until then.`);
    } else tell("");
    const { history } = found;
    const v = history.verdicts;
    score.set([v.time_s, v.score, v.threshold], spans);
    drawShares(history.channels);
    drawChannels(history, spans);
    showCards(alerts, found.alerts.slice(0, 20), { readOnly: state?.read_only ?? true, done: refresh, none: "None.", linked: false });
  }

  function drawShares(channels) {
    const worst = [...channels].sort((a, b) => b.share - a.share).slice(0, 12);
    shares.replaceChildren(...worst.map((c) => {
      const bar = el("span", { class: "fill" });
      bar.style.width = `${100 * c.share}%`;
      return el("li", {}, el("span", { class: "name" }, c.name), el("span", { class: "track" }, bar), el("span", { class: "right" }, percent(c.share)));
    }));
  }

  function drawChannels(history, spans) {
    if (shown.size < Math.min(limit, history.channels.length)) {
      const chosen = new Set([...history.channels].sort((a, b) => b.share - a.share).slice(0, limit).map((c) => c.name));
      for (const { name } of history.channels) if (chosen.has(name) && !shown.has(name)) shown.set(name, channelPanel(charts, name));
      panels.replaceChildren(...history.channels.filter((c) => shown.has(c.name)).map((c) => shown.get(c.name).root));
    }
    more.hidden = shown.size >= history.channels.length;
    text(more, `Show all ${history.channels.length} channels`);
    for (const channel of history.channels) shown.get(channel.name)?.set(history.time_s, channel, spans);
  }

  return {
    root, title: stream,
    update(next) { state = next; refresh(); },
    close() { closed = true; charts.close(); },
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
