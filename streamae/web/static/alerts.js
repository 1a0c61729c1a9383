// Alerts, open and past, and what people say about them.

import { act, expected, get } from "./api.js";
import { badge, el, select } from "./dom.js";
import { duration, moment, number, percent } from "./format.js";
import { streamHash } from "./overview.js";

export function alertsPage() {
  let wanted = "";
  let version = null;
  let readOnly = true;
  let asking = false;
  let closed = false;
  const cards = el("div", { class: "cards" });
  const hint = el("p", { class: "note", hidden: true },
    "Read-only: set ", el("code", {}, "web.token"), " in the configuration to acknowledge alerts here.");
  const root = el("section", {}, el("h1", {}, "Alerts"), hint,
    el("div", { class: "tools" }, select("Which alerts", [["", "Open and past"], ["firing", "Firing"], ["resolved", "Past"]], wanted,
      (value) => { wanted = value; refresh(); })),
    cards);

  async function refresh() {
    if (asking || closed) return;
    asking = true;
    try {
      const { alerts } = await get("alerts", { state: wanted, limit: 200 });
      if (closed) return;
      const order = [...alerts].sort((a, b) => (b.state === "firing") - (a.state === "firing"));
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
      failed.textContent = error.message;
      failed.hidden = false;
    }
  };
  const lasted = (alert.closed_s ?? alert.time_s) - alert.onset_s;
  const worst = alert.worst_channel ? `${alert.worst_channel} carries ${percent(alert.shares[alert.worst_channel])} of the error` : "";
  const facts = [
    `${moment(alert.onset_s)}${alert.closed_s ? ` – ${moment(alert.closed_s)} (${duration(lasted)})` : ""}`,
    // A resolved alert carries the numbers of the window that ended it.
    alert.state === "firing" ? `score ${number(alert.score)} over ${number(alert.threshold)}` : `ended at score ${number(alert.score)}`,
    worst,
  ];
  const said = [];
  if (alert.acknowledged_s) said.push(`Acknowledged ${moment(alert.acknowledged_s)}`);
  if (alert.feedback) said.push(`Marked as ${alert.feedback.replaceAll(/[-_]/g, " ")}`);
  if (alert.note) said.push(`“${alert.note}”`);
  const name = `${alert.group} ${alert.stream}`;
  return el("article", { class: `card ${alert.state === "firing" ? "open" : ""}`, "data-alert": alert.id, "aria-label": `Alert of ${name}` },
    el("h3", {}, badge(alert.state), alert.severity === "critical" ? badge("critical") : null,
      linked ? el("a", { href: streamHash(alert.group, alert.stream) }, alert.stream) : null,
      linked ? el("span", { class: "muted" }, alert.group) : null),
    el("p", {}, facts.filter(Boolean).join(" · ")),
    said.length ? el("p", { class: "said" }, said.join(" · ")) : null,
    readOnly ? null : el("p", { class: "row" }, note,
      el("button", { type: "button", "data-part": "acknowledge", disabled: Boolean(alert.acknowledged_s), on: { click: press("acknowledge") } }, "Acknowledge"),
      el("button", { type: "button", class: "quiet", "data-part": "false-alarm", disabled: Boolean(alert.feedback), on: { click: press("false-alarm") } }, "False alarm")),
    failed);
}
