// The daemon's API: questions, changes with the token, and the stream of events.

const TOKEN = "streamae-token";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Let pass that the daemon does not answer: the state line says so, and the next event asks again. */
export function expected(error) {
  if (!(error instanceof ApiError) && error.name !== "TypeError" && error.name !== "AbortError") throw error;
  if (error.name === "TypeError" && !/fetch|network|load/i.test(error.message)) throw error; // ours
}

/** GET as JSON; a list gives a parameter several times. */
export async function get(path, parameters = {}) {
  const given = Object.entries(parameters)
    .flatMap(([name, value]) => [value].flat().map((one) => [name, one]))
    .filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  return answer(await fetch(`api/v1/${path}${query && `?${query}`}`));
}

/** POST a change; asks for the token where there is none yet, null where that was declined. */
export async function change(path, body = "", type = "text/plain") {
  const token = sessionStorage.getItem(TOKEN) ?? (await askToken());
  if (token === null) return null;
  const response = await fetch(`api/v1/${path}`, {
    method: "POST", body, headers: { authorization: `Bearer ${latin(token)}`, "content-type": type },
  });
  if (response.status === 401) sessionStorage.removeItem(TOKEN);
  const done = await answer(response);
  sessionStorage.setItem(TOKEN, token);
  return done;
}

/** Do something to an alert. */
export function act(alert, action, note) {
  return change(`alerts/${encodeURIComponent(alert)}/${action}`, note);
}

/** A header carries bytes: UTF-8, each byte as one character. */
function latin(token) {
  return String.fromCharCode(...new TextEncoder().encode(token));
}

async function answer(response) {
  const said = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, said.error ?? `the daemon answered ${response.status}`);
  return said;
}

function askToken() {
  const dialog = document.getElementById("token");
  const field = document.getElementById("token-value");
  field.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const done = (value) => {
      dialog.onclose = null;
      if (dialog.open) dialog.close();
      resolve(value);
    };
    document.getElementById("token-form").onsubmit = (event) => {
      event.preventDefault();
      done(field.value || null);
    };
    document.getElementById("token-cancel").onclick = () => done(null);
    dialog.onclose = () => done(null);
  });
}

/** Call `heard` with each state of the daemon, `lost` when the connection is gone; nothing while the tab is hidden. */
export function listen(heard, lost) {
  let source = null;
  let retry = 0;
  const open = () => {
    clearTimeout(retry);
    if (source !== null || document.hidden) return;
    source = new EventSource("api/v1/events");
    source.addEventListener("state", (event) => heard(JSON.parse(event.data)));
    source.onerror = () => {
      lost();
      if (source?.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      close();
      retry = setTimeout(open, 3000);
    };
  };
  const close = () => {
    source?.close();
    source = null;
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
}
