// Silences: asking for one, and the list of those that last.

import { change, expected, get } from "./api.js";
import { badge, el, select, text } from "./dom.js";
import { duration, moment } from "./format.js";

const LENGTHS = [["1800", "30 minutes"], ["7200", "2 hours"], ["28800", "8 hours"], ["86400", "1 day"], ["604800", "1 week"]];
const WHO = "streamae-who";

/** A name as a pattern that means this name and no other. */
function exactly(name) {
  return name.replace(/[*?[]/g, "[$&]");
}

function remembered() {
  try {
    return localStorage.getItem(WHO) ?? "";
  } catch {
    return ""; // storage may be switched off
  }
}

/** Ask how long, and of what; `rule` is null for a stream as a whole. True where a silence was made. */
export function askSilence({ group, stream, rule }) {
  const scopes = [
    rule ? ["alert", `${stream}, rule ${rule}`] : null,
    ["stream", `${stream}, whatever it is`],
    ["group", `all of ${group}`],
  ].filter(Boolean);
  let scope = scopes[0][0];
  let length = "7200";
  const who = el("input", { type: "text", maxlength: 100, value: remembered(), autocomplete: "name" });
  const why = el("input", { type: "text", maxlength: 500, placeholder: "Bearing is being changed" });
  const failed = el("p", { class: "bad", role: "alert", hidden: true });
  const label = (words, field) => el("label", {}, words, field);
  const cancel = el("button", { type: "button", class: "quiet" }, "Cancel");
  const form = el("form", {}, el("h2", { id: "silence-title" }, "Silence"),
    el("p", {}, "Alerts go on to be found, stored and shown; nobody is notified of them until the silence ends."),
    label("What", select("What to silence", scopes, scope, (value) => { scope = value; })),
    label("For", select("How long", LENGTHS, length, (value) => { length = value; })),
    label("Your name", who), label("Why", why), failed,
    el("p", { class: "row" }, cancel, el("button", { type: "submit" }, "Silence")));
  const dialog = el("dialog", { "aria-labelledby": "silence-title", class: "ask" }, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    let made = false;
    cancel.onclick = () => dialog.close();
    dialog.onclose = () => { dialog.remove(); resolve(made); };
    form.onsubmit = async (event) => {
      event.preventDefault();
      const whom = { group: exactly(group) };
      if (scope !== "group") whom.stream = exactly(stream);
      if (scope === "alert") whom.rule = exactly(rule);
      try {
        localStorage.setItem(WHO, who.value);
      } catch { /* storage may be switched off */ }
      try {
        const body = { ...whom, duration_s: Number(length), created_by: who.value, comment: why.value };
        if ((await change("silences", JSON.stringify(body), "application/json")) === null) return;
        made = true;
        dialog.close();
      } catch (error) {
        text(failed, error.message);
        failed.hidden = false;
      }
    };
  });
}

/** What a silence is about, until when and why, in words. */
export function silenceNote(silence) {
  if (!silence.ends_s) return "Silenced: nobody was notified";
  const what = silence.maintenance ? "In maintenance" : "Silenced";
  const by = silence.created_by ? ` by ${silence.created_by}` : "";
  const why = silence.maintenance ? `: ${silence.maintenance}` : silence.comment ? `: “${silence.comment}”` : "";
  const left = silence.ends_s - Date.now() / 1000;
  if (silence.state === "pending") return `${what} from ${moment(silence.starts_s)} to ${moment(silence.ends_s)}${by}${why}`;
  const until = silence.state === "expired" ? `Was ${what.toLowerCase()} until ${moment(silence.ends_s)}`
    : `${what} until ${moment(silence.ends_s)}${left > 0 ? ` (${duration(left)} left)` : ""}`;
  return until + by + why;
}

/** The list of the silences that last or are to come; `changed` is called after one was ended. */
export function silenceList(changed) {
  const list = el("ul", { class: "silences" });
  const root = el("section", { hidden: true, "aria-label": "Silences" }, el("h2", {}, "Silences"), list);
  let shown = "";
  async function refresh(readOnly) {
    try {
      const { silences } = await get("silences");
      const current = silences.filter((s) => s.state !== "expired");
      root.hidden = current.length === 0;
      const said = JSON.stringify([current, readOnly]);
      if (said === shown) return;
      shown = said;
      list.replaceChildren(...current.map((s) => line(s, readOnly, changed)));
    } catch (error) {
      expected(error);
    }
  }
  return { root, refresh };
}

function line(silence, readOnly, changed) {
  const failed = el("span", { class: "bad", role: "alert", hidden: true });
  const end = async () => {
    try {
      if ((await change(`silences/${silence.id}/end`)) !== null) changed();
    } catch (error) {
      text(failed, error.message);
      failed.hidden = false;
    }
  };
  const labels = Object.entries(silence.labels).map(([name, value]) => `${name}=${value}`);
  const rule = silence.rule === "*" ? [] : [`rule ${silence.rule}`];
  const whom = [`${silence.group} / ${silence.stream}`, ...rule, ...labels].join(", ");
  return el("li", {}, silence.state === "pending" ? badge("pending") : badge(silence.maintenance ? "maintenance" : "silenced"),
    el("span", { class: "whom" }, whom), el("span", { class: "muted" }, silenceNote(silence)), failed,
    readOnly ? null : el("button", { type: "button", class: "quiet", "aria-label": `End the silence of ${whom} now`, on: { click: end } }, "End now"));
}
