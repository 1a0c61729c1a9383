// The streams, worst first.

import { get } from "./api.js";
import { badge, el, select, setOptions, svg, text, visible } from "./dom.js";
import { count, duration, number } from "./format.js";
import { VirtualList } from "./list.js";

const WIDTH = 120;
const HEIGHT = 26;
const NOTES = new Set(["maintenance", "learning", "filling"]); // marks that nobody has to act upon
const TROUBLE = "trouble"; // no state of an alert: a verdict on a sensor, quarantine
const chosen = { q: "", group: "", state: "", sort: "peak" }; // stays while one looks at other pages

/** The address of a stream's page; with a `span` of event time in seconds, of what it was then. */
export function streamHash(group, stream, span = []) {
  return `#/stream/${[group, stream, ...span.map((s) => s.toFixed(3))].map(encodeURIComponent).join("/")}`;
}

export function overviewPage() {
  const found = el("span", { class: "muted found", role: "status" });
  let known = null;
  const list = new VirtualList({
    label: "Streams, worst first",
    ask: (offset, limit) => get("streams", { ...chosen, ...only(chosen.state), ...asked(chosen.q), offset, limit }),
    line: streamLine,
    changed: (total) => {
      text(found, total === 1 ? "1 stream" : `${count(total)} streams`);
      empty.hidden = total > 0;
    },
  });
  const choose = (name) => (value) => { chosen[name] = value; list.reset(); };
  let waiting = 0;
  const search = el("input", {
    type: "search", placeholder: "Name, or label=value", "aria-label": "Search streams by name or label=value", value: chosen.q,
    on: { input: () => { clearTimeout(waiting); waiting = setTimeout(() => choose("q")(search.value), 150); } },
  });
  const groups = select("Group", [["", "All groups"]], chosen.group, choose("group"));
  const states = ["firing", TROUBLE, "unjudged", "pending", "ok", "learning", "filling"];
  const empty = el("p", { class: "empty", hidden: true }, "No stream matches. Streams appear with their first message.");
  const root = el("section", { class: "streams" },
    el("h1", { class: "hidden" }, "Streams"),
    el("div", { class: "tools" }, search, groups,
      select("State", [["", "All states"], ...states.map((s) => [s, s])], chosen.state, choose("state")),
      select("Order", [["peak", "Worst of the last minute"], ["score", "Worst now"], ["name", "By name"]],
        chosen.sort, choose("sort")),
      found),
    el("div", { class: "line head", "aria-hidden": "true" }, el("span", {}, "Stream"), el("span", {}, "State"),
      el("span", {}, "Score over threshold"), el("span", { class: "right" }, "Score"),
      el("span", { class: "right" }, "Threshold"), el("span", {}, "Worst channel")),
    list.root, empty);
  return {
    root, title: "Streams",
    update(state) {
      const names = JSON.stringify(state.groups);
      if (names !== known) {
        known = names;
        setOptions(groups, [["", "All groups"], ...state.groups.map((g) => [g, g])], chosen.group);
        groups.hidden = state.groups.length < 2;
        root.classList.toggle("single", groups.hidden);
      }
      list.refresh();
    },
    close() { clearTimeout(waiting); list.close(); },
  };
}

function only(state) {
  return state === TROUBLE ? { state: "", trouble: "true" } : {};
}

/** Show the streams with something wrong beside their score, on the overview. */
export function showTroubled() {
  chosen.state = TROUBLE;
  location.hash = "#/";
}

/** Show the streams that have this label, on the overview. */
export function showLabelled(name, value) {
  chosen.q = `${name}=${/[\s"]/.test(value) ? `"${value}"` : value}`;
  location.hash = "#/";
}

/** Words of the form label=value, or label="a value", are labels; what is left is a part of the name. */
function asked(search) {
  const label = [];
  const q = search.replaceAll(/(?<!\S)([A-Za-z_]\w*)=(?:"(.*?)"(?!\S)|(\S*))/g, (_, name, quoted, plain) => {
    label.push(`${name}=${quoted ?? plain}`);
    return "";
  });
  return { q: q.trim(), label };
}

function streamLine() {
  const name = el("span", { class: "name" });
  const group = el("span", { class: "muted" });
  const state = el("span", { class: "cell-state" });
  const path = svg("path", { class: "trace" });
  const limit = svg("path", { class: "limit" });
  const spark = svg("svg", {
    class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, preserveAspectRatio: "none",
    "aria-hidden": "true",
  }, limit, path);
  const score = el("span", { class: "right score" });
  const threshold = el("span", { class: "right threshold" });
  const worst = el("span", { class: "worst" });
  const link = el("a", { class: "line" }, el("span", { class: "who" }, name, group), state, spark, score, threshold, worst);
  return {
    root: el("div", { role: "listitem", class: "place" }, link), link,
    show(item) {
      link.classList.toggle("waiting", !item);
      if (!item) {
        for (const node of [name, group, score, threshold, worst]) text(node, "");
        state.replaceChildren();
        path.setAttribute("d", "");
        limit.setAttribute("d", "");
        return;
      }
      link.href = streamHash(item.group, item.stream);
      link.dataset.state = item.state;
      link.classList.toggle("troubled", Boolean(item.marks?.some((mark) => !NOTES.has(mark))));
      text(name, item.stream);
      text(group, item.group);
      name.title = visible(item.stream);
      // What is special about a stream says more than that it does not alarm.
      const marks = item.marks ?? [];
      const badges = item.state === "ok" && marks.length ? marks : [item.state, ...marks];
      if (state.dataset.state !== badges.join()) {
        state.dataset.state = badges.join();
        state.replaceChildren(...badges.map(badge));
        state.title = badges.join(", ");
      }
      text(score, number(item.score));
      text(threshold, number(item.threshold));
      text(worst, item.unjudged?.words ?? progress(item) ?? item.worst_channel ?? "");
      draw(path, limit, item.spark ?? []);
    },
  };
}

/** How far a stream is that nobody can judge yet; null for others. */
export function progress(item) {
  if (item.rows_needed === undefined) return null;
  const eta = item.eta_s === null ? "" : `, about ${duration(item.eta_s)}`;
  return `${item.rows} of ${item.rows_needed} rows${eta}`;
}

/** Hundredths of the threshold as a line; the threshold is the dashed line. */
function draw(path, limit, values) {
  const top = Math.max(125, ...values.filter((v) => v !== null));
  const y = (v) => (HEIGHT - 1.5 - (HEIGHT - 3) * v / top).toFixed(1);
  const step = WIDTH / Math.max(1, values.length - 1);
  let d = "";
  values.forEach((v, i) => { if (v !== null) d += `${d ? "L" : "M"}${(i * step).toFixed(1)} ${y(v)}`; });
  path.setAttribute("d", d);
  limit.setAttribute("d", `M0 ${y(100)}H${WIDTH}`);
}
