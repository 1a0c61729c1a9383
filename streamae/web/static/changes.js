// Something about a stream was changed on purpose: it learns again, is removed, or has another name.

import { change } from "./api.js";
import { el, select } from "./dom.js";

const ACTIONS = [
  ["relearn", "Learn again what is normal"],
  ["rename", "Rename: what it learnt goes on under another name"],
  ["remove", "Remove it, until it sends again"],
];
const SINCE = [["", "from what comes"], ["3600", "from the last hour"], ["21600", "from the last 6 hours"], ["86400", "from the last day"]];

/** Ask what was changed; `newest` is the event time of the last row. The stream's name afterwards; "" gone, null as before. */
export function askChange({ group, stream, newest }) {
  let action = "relearn";
  let since = "";
  const name = el("input", { type: "text", maxlength: 1000, value: stream });
  const failed = el("p", { class: "bad", role: "alert", hidden: true });
  const label = (words, field) => el("label", {}, words, field);
  const learn = label("Learn", select("Learn from", SINCE, since, (value) => { since = value; }));
  const rename = label("New name", name);
  const show = () => {
    learn.hidden = action !== "relearn";
    rename.hidden = action !== "rename";
  };
  const cancel = el("button", { type: "button", class: "quiet" }, "Cancel");
  const form = el("form", {}, el("h2", { id: "change-title" }, "Changed on purpose"),
    el("p", {}, "Its alerts are resolved. Learning again, it is not judged until it knows what is normal now."),
    label("What", select("What to do", ACTIONS, action, (value) => { action = value; show(); })),
    learn, rename, failed, el("p", { class: "row" }, cancel, el("button", { type: "submit" }, "Change")));
  const dialog = el("dialog", { "aria-labelledby": "change-title", class: "ask" }, form);
  show();
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    let now = null;
    cancel.onclick = () => dialog.close();
    dialog.onclose = () => { dialog.remove(); resolve(now); };
    form.onsubmit = async (event) => {
      event.preventDefault();
      const body = { group, stream };
      if (action === "relearn" && since !== "") body.since_s = Math.max(0, (newest ?? Date.now() / 1000) - Number(since));
      if (action === "rename") body.name = name.value;
      try {
        if ((await change(`stream/${action}`, JSON.stringify(body), "application/json")) === null) return;
        now = action === "remove" ? "" : action === "rename" ? name.value : stream;
        dialog.close();
      } catch (error) {
        failed.textContent = error.message;
        failed.hidden = false;
      }
    };
  });
}
