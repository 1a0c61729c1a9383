// The page: which part is shown, the state line, the theme. Each part has `root`, `update(state)` and `close()`.

import { alertsPage } from "./alerts.js";
import { listen } from "./api.js";
import { showConditions } from "./conditions.js";
import { el, text, visible } from "./dom.js";
import { count, duration, number } from "./format.js";
import { modelsPage } from "./models.js";
import { overviewPage } from "./overview.js";
import { streamPage } from "./stream.js";

const main = document.getElementById("main");
const line = document.getElementById("state");
const reasons = document.getElementById("reasons");
const conditions = document.getElementById("conditions");
const firing = document.getElementById("firing");
const announce = document.getElementById("announce");
let page = null;
let state = null;

/** The hash of a stream's page. */
function place() {
  const [, name = "", ...rest] = location.hash.split("/");
  return [name, rest.map(decodeURIComponent)];
}

function show() {
  const [name, given] = place();
  page?.close();
  if (name === "stream" && given.length >= 2) page = streamPage(...given);
  else if (name === "alerts") page = alertsPage();
  else if (name === "models") page = modelsPage();
  else page = overviewPage();
  const current = { stream: "overview", alerts: "alerts", models: "models" }[name] ?? "overview";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${visible(page.title)} · streamae`;
  main.replaceChildren(page.root);
  main.className = name || "overview";
  if (state) page.update(state);
}

function heard(next) {
  const before = state;
  state = next;
  document.body.classList.remove("lost");
  report(next);
  if (before && next.firing > before.firing) text(announce, `${next.firing} firing${kinds(next)}`);
  page.update(next);
}

function report(s) {
  const parts = [
    [s.connected ? "connected" : "not connected", s.connected && s.ready ? "good" : "bad"],
    [`${number(s.messages_per_s)} messages/s`],
    [`${count(s.streams)} streams`],
    [`${number(s.windows_per_s)} scored/s`],
    [`lag ${duration(s.lag_s)}`, s.lag_s > 10 ? "bad" : ""],
    [`${count(s.dropped ?? 0)} dropped`, s.dropped_per_s > 0 ? "bad" : ""],
  ];
  if (s.thinning > 1) parts.push([`backlog: one window in ${s.thinning} scored`, "bad"]);
  if (s.interrupted) parts.push([`${count(s.interrupted)} windows started over after a loss`]);
  if (s.learning) parts.push([`${count(s.learning)} learning`]);
  if (s.filling) parts.push([`${count(s.filling)} filling`]);
  if (s.firing) parts.push([`${count(s.firing)} firing${kinds(s)}`, "bad"]);
  line.replaceChildren(
    el("span", { class: `dot ${s.ready && s.healthy ? "good" : "bad"}` }),
    ...parts.map(([words, kind]) => el("span", { class: kind ?? "" }, words)),
  );
  text(reasons, s.reasons.join(" · "));
  reasons.hidden = s.reasons.length === 0;
  showConditions(conditions, s);
  text(firing, count(s.firing ?? 0));
  firing.hidden = !s.firing;
}

/** What fires beside anomalies, in words. */
function kinds(s) {
  // What is in quarantine is not judged, too: each is counted once.
  const counted = s.anomalies + s.sensor_faults + s.quarantined + s.broken_models + s.poison;
  const words = [
    [s.sensor_faults, "sensor fault", "sensor faults"], [s.quarantined, "in quarantine", "in quarantine"],
    [s.firing - counted, "not judged", "not judged"], [s.broken_models, "model broken", "models broken"],
    [s.poison, "poison message", "poison messages"],
  ];
  const said = words.filter(([n]) => n).map(([n, one, several]) => `${count(n)} ${n === 1 ? one : several}`);
  return said.length ? ` (${[s.anomalies ? `${count(s.anomalies)} by score` : "", ...said].filter(Boolean).join(", ")})` : "";
}

function lost() {
  document.body.classList.add("lost");
  text(reasons, "The page has lost the daemon; what is shown is old. It tries again.");
  reasons.hidden = false;
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("streamae-theme", root.dataset.theme);
  } catch { /* storage may be switched off */ }
  window.dispatchEvent(new Event("themechange"));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => window.dispatchEvent(new Event("themechange")));
window.addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  show();
  main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
});
show();
listen(heard, lost);
