// Numbers and times as people read them.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
});

/** Three significant digits; a dash for none. */
export function number(x) {
  if (x === null || x === undefined) return "–";
  const size = Math.abs(x);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return x.toExponential(1);
  return size >= 100 ? x.toFixed(0) : String(Number(x.toPrecision(3)));
}

export function count(n) {
  return Math.round(n).toLocaleString("en").replaceAll(",", " ");
}

export function percent(x) {
  return `${Math.round(100 * x)} %`;
}

export function duration(s) {
  if (s === null || s === undefined) return "–";
  if (s < 1) return `${Math.round(1000 * s)} ms`;
  if (s < 90) return `${Number(s.toPrecision(2))} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129600) return `${Number((s / 3600).toPrecision(2))} h`;
  return `${Number((s / 86400).toPrecision(2))} days`;
}

/** The time of day where it is today, else with the date. */
export function moment(time_s) {
  if (time_s === null || time_s === undefined) return "–";
  const then = new Date(1000 * time_s);
  return then.toDateString() === new Date().toDateString() ? clock.format(then) : day.format(then);
}

/** How often, as `1 / week`, for a rate per second. */
export function rate(per_s) {
  if (!per_s) return "none";
  for (const [name, s] of [["hour", 3600], ["day", 86400], ["week", 604800], ["month", 2629800], ["year", 31557600]]) {
    if (per_s * s >= 0.999) return `${Number((per_s * s).toPrecision(3))} / ${name}`;
  }
  return `one in ${duration(1 / per_s)}`;
}
