// Alerts, open and past, and what people say about them.

import { act, expected, get } from "./api.js";
import { sinkList, troubleList } from "./conditions.js";
import { badge, el, select, text } from "./dom.js";
import { count, duration, moment, number, percent } from "./format.js";
import { showTroubled, streamHash } from "./overview.js";
import { askSilence, silenceList, silenceNote } from "./silences.js";

export function alertsPage() {
  let wanted = "";
  let version = null;
  let readOnly = true;
  let asking = false;
  let closed = false;
  const cards = el("div", { class: "cards" });
  const hint = el("p", { class: "note", hidden: true },
    "Read-only: set ", el("code", {}, "web.token"), " in the configuration to acknowledge and to silence alerts here.");
  const silences = silenceList(() => refresh());
  const sinks = sinkList();
  const troubles = troubleList(showTroubled);
  const root = el("section", {}, el("h1", {}, "Alerts"), hint, silences.root, troubles.root,
    el("div", { class: "tools" }, select("Which alerts", [["", "Open and past"], ["firing", "Firing"], ["resolved", "Past"]], wanted,
      (value) => { wanted = value; refresh(); })),
    cards, sinks.root);

  async function refresh() {
    if (asking || closed) return;
    asking = true;
    try {
      const { alerts } = await get("alerts", { state: wanted, limit: 200 });
      if (closed) return;
      await silences.refresh(readOnly);
      if (closed) return;
      const weight = (a) => (a.state === "firing" ? 2 - Boolean(a.silence) : 0);
      const order = [...alerts].sort((a, b) => weight(b) - weight(a));
      showCards(cards, order, { readOnly, done: refresh, none: "No alerts. That is the usual state of things." });
    } catch (error) {
      expected(error);
      version = null;
    } finally {
      asking = false;
    }
  }

  return {
    root, title: "Alerts",
    update(state) {
      readOnly = state.read_only;
      hint.hidden = !readOnly;
      sinks.update(state);
      troubles.update(state);
      if (version === state.alerts_version) return;
      version = state.alerts_version;
      refresh();
    },
    close() { closed = true; },
  };
}

/** Bring the cards up to date: those that did not change stay, and so do the focus and what is being written. */
export function showCards(box, alerts, { readOnly, done, none, linked = true }) {
  const had = new Map([...box.children].map((card) => [card.dataset.alert, card]));
  const held = box.contains(document.activeElement) ? document.activeElement : null;
  const next = alerts.map((alert) => {
    const said = JSON.stringify([alert, readOnly]);
    const old = had.get(alert.id);
    if (old?.said === said) return old;
    const card = alertCard(alert, readOnly, done, linked);
    card.said = said;
    const [before, after] = [old, card].map((c) => c?.querySelector("input"));
    if (before && after) after.value = before.value;
    return card;
  });
  if (next.length === 0) next.push(el("p", { class: "empty" }, none));
  if (next.length === box.children.length && next.every((card, i) => card === box.children[i])) return;
  box.replaceChildren(...next);
  if (!held) return;
  const card = next.find((c) => c.dataset.alert === held.closest("article")?.dataset.alert);
  const same = card?.querySelector(`[data-part="${held.dataset.part}"]:not(:disabled)`) ?? card?.querySelector("input");
  same?.focus({ preventScroll: true });
}

/** What a verdict on a sensor has measured, by its rule; while it lasts, that is the least. */
const VERDICTS = {
  stale: (a) => [`${a.worst_channel || "nothing"} ${a.worst_channel ? "silent" : "heard"} for ${least(a)}${duration(a.score)}`],
  stuck: (a) => [`${a.worst_channel}: ${least(a)}${count(a.score)} equal values`],
  out_of_range: (a) => [`${a.worst_channel}: ${number(a.score)}, its limit is ${number(a.threshold)}`],
  flapping: (a) => [`began ${count(a.score)} times`],
};

function least(alert) {
  return alert.state === "firing" ? "more than " : "";
}

/** An anomaly: scores, and who carries the error, of one that has ended when it began. */
function scored(alert) {
  const { worst_channel: worst, shares, peak_score: peak } = alert;
  const over = alert.state === "resolved";
  return [
    over ? "" : `score ${number(alert.score)} ${alert.limit ? "under" : "over"} ${number(alert.threshold)}`,
    over || !alert.limit ? "" : alert.limit,
    peak === null || peak === undefined ? "" : `peak ${number(peak)}`,
    worst ? `${worst} ${over ? "carried" : "carries"} ${percent(shares[worst])} of the error${over ? " when it began" : ""}` : "",
  ];
}

/** One alert; `done` is called after something was said about it. */
function alertCard(alert, readOnly, done, linked) {
  const failed = el("p", { class: "bad", role: "alert", hidden: true });
  const note = el("input", { type: "text", maxlength: 500, "data-part": "note", placeholder: "Note (optional)", "aria-label": "Note" });
  const press = (action) => async () => {
    try {
      if ((await act(alert.id, action, note.value)) === null) return;
      note.value = "";
      done();
    } catch (error) {
      text(failed, error.message);
      failed.hidden = false;
    }
  };
  const lasted = (alert.closed_s ?? alert.time_s) - alert.onset_s;
  const facts = [
    `${moment(alert.onset_s)}${alert.closed_s ? ` – ${moment(alert.closed_s)} (${duration(lasted)})` : ""}`,
    ...(VERDICTS[alert.rule]?.(alert) ?? scored(alert)),
  ];
  const said = [];
  if (alert.acknowledged_s) said.push(`Acknowledged ${moment(alert.acknowledged_s)}`);
  if (alert.feedback) said.push(`Marked as ${alert.feedback.replaceAll(/[-_]/g, " ")}`);
  if (alert.silence) said.push(silenceNote(alert.silence));
  if (alert.note) said.push(`“${alert.note}”`);
  const name = `${alert.group} ${alert.stream}`;
  const silence = async () => {
    if (await askSilence(alert)) done();
  };
  const kind = alert.state !== "firing" ? "" : alert.silence ? "open quieted" : "open";
  const lead = Math.max(120, lasted / 2);
  const then = streamHash(alert.group, alert.stream, [alert.onset_s - lead, (alert.closed_s ?? alert.time_s) + lead]);
  return el("article", { class: `card ${kind}`, "data-alert": alert.id, "aria-label": `Alert of ${name}` },
    el("h3", {}, badge(alert.state), alert.severity === "critical" ? badge("critical") : null,
      alert.rule && alert.rule !== "anomaly" ? badge(alert.rule) : null, alert.silence ? badge("silenced") : null,
      linked ? el("a", { href: streamHash(alert.group, alert.stream) }, alert.stream) : null,
      linked ? el("span", { class: "muted" }, alert.group) : null),
    el("p", {}, facts.filter(Boolean).join(" · "), " · ", el("a", { href: then }, "show that time")),
    said.length ? el("p", { class: "said" }, said.join(" · ")) : null,
    readOnly ? null : el("p", { class: "row" }, note,
      el("button", { type: "button", "data-part": "acknowledge", disabled: Boolean(alert.acknowledged_s), on: { click: press("acknowledge") } }, "Acknowledge"),
      alert.state === "firing" && !alert.silence ? el("button", { type: "button", class: "quiet", "data-part": "silence", on: { click: silence } }, "Silence …") : null,
      alert.feedback || alert.rule !== "anomaly" ? null
        : el("button", { type: "button", class: "quiet", "data-part": "real", title: "Its threshold goes back to where it was before the alert", on: { click: press("real") } }, "Real"),
      alert.feedback
        ? el("button", { type: "button", class: "quiet", "data-part": "false-alarm", on: { click: press("withdraw-feedback") } }, alert.feedback === "real" ? "Not real" : "Not a false alarm")
        : el("button", { type: "button", class: "quiet", "data-part": "false-alarm", on: { click: press("false-alarm") } }, "False alarm")),
    failed);
}
