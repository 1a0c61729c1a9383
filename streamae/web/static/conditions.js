// What a person must repair: a line for each condition that fails, and how each sink is doing.

import { badge, el } from "./dom.js";
import { count, duration, moment } from "./format.js";

/** Bring the list of conditions up to date, without those that the daemon's reasons name already. */
export function showConditions(box, state) {
  const untold = (state.conditions ?? []).filter((one) => !state.reasons.some((reason) => reason.includes(one.reason)));
  box.hidden = untold.length === 0;
  renew(box, untold.map(conditionLine));
}

function conditionLine({ what, since_s: since, reason, failures }) {
  const often = failures > 1 ? `, ${count(failures)} times` : "";
  return el("li", {}, el("b", {}, what), `: ${reason} `, el("span", { class: "muted" }, `since ${moment(since)}${often}`));
}

/** What needs a person and has no alert of its own: quarantine, broken models, poison; `shown` leads to the streams. */
export function troubleList(shown) {
  const list = el("ul", { class: "sinks" });
  const root = el("section", { hidden: true }, el("h2", {}, "Not judged"), list);
  return {
    root,
    update(state) {
      const lines = (state.conditions ?? []).filter(({ kind }) => kind === "model" || kind === "poison").map(conditionLine);
      if (state.quarantined) {
        const button = el("button", { type: "button", class: "quiet", on: { click: shown } }, "Show them");
        lines.unshift(el("li", {}, badge("quarantined"), ` ${count(state.quarantined)} streams: the model fails on them `, button));
      }
      root.hidden = lines.length === 0;
      renew(list, lines);
    },
  };
}

/** The sinks, each with its state and what waits for it; `update` with the daemon's state. */
export function sinkList() {
  const list = el("ul", { class: "sinks" });
  const root = el("section", { hidden: true }, el("h2", {}, "Sinks"), list);
  return {
    root,
    update(state) {
      const sinks = state.sinks ?? [];
      root.hidden = sinks.length === 0;
      renew(list, sinks.map((sink) => sinkLine(sink, state.time_s)));
    },
  };
}

function sinkLine(sink, now) {
  const facts = [
    sink.waiting ? `${count(sink.waiting)} waiting, the oldest for ${duration(Math.max(0, now - sink.oldest_s))}` : "nothing waits",
    sink.dead ? `${count(sink.dead)} refused for good` : "",
    sink.state === "failing" ? `since ${moment(sink.since_s)}, ${count(sink.attempts)} failures: ${sink.reason}` : "",
  ];
  return el("li", {}, badge(sink.state), el("b", {}, sink.name), ` ${facts.filter(Boolean).join(" · ")}`);
}

/** Replace the lines of a list only where they say something else: a screen reader is not disturbed for nothing. */
function renew(list, lines) {
  if (lines.map((line) => line.textContent).join("\n") === [...list.children].map((line) => line.textContent).join("\n")) return;
  list.replaceChildren(...lines);
}
