// Each group's model: what it was trained on, how that went, and what it takes for normal.

import { expected, get } from "./api.js";
import { Chart, ChartGroup } from "./charts.js";
import { el } from "./dom.js";
import { count, duration, moment, number, rate } from "./format.js";

export function modelsPage() {
  const list = el("div", {});
  const groups = [];
  let asked = false;
  let closed = false;

  async function refresh() {
    try {
      const { models } = await get("models");
      if (closed) return;
      list.replaceChildren(...models.map((model) => modelPanel(model, groups)));
    } catch (error) {
      expected(error);
      asked = false;
    }
  }

  return {
    root: el("section", {}, el("h1", {}, "Models"), list), title: "Models",
    update() {
      if (asked) return;
      asked = true;
      refresh();
    },
    close() {
      closed = true;
      for (const group of groups) group.close();
    },
  };
}

function modelPanel(model, groups) {
  const { training = {}, network = {}, calibration = {} } = model;
  const recurrent = network.recurrent ?? network;
  const rows = Object.values(training.rows ?? {}).reduce((sum, n) => sum + n, 0);
  const losses = training.losses ?? [];
  const facts = [
    ["File", model.file], ["SHA-256", model.sha256],
    ["Trained", training.trained_s ? moment(training.trained_s) : null],
    ["Training took", training.duration_s === undefined ? null : duration(training.duration_s)],
    ["Streams", `${count(model.streams.length)}: ${list(model.streams, 8)}`],
    ["Rows", `${count(rows)}, one every ${duration(model.period_s)}`],
    ["Windows", training.windows === undefined ? null : `${count(training.windows)} learned from, ${count(training.calibrated_windows ?? 0)} calibrated on`],
    ["Channels", list(model.targets ?? model.channels, 20)],
    ["Context", model.context?.length ? list(model.context, 20) : null],
    ["Left out", Object.entries(training.dropped_channels ?? {}).map(([name, why]) => `${name} (${why})`).join(", ")],
    ["Recurrent network", [recurrent.task, recurrent.cell, recurrent.hidden && `${recurrent.hidden} units`,
      recurrent.window && `window of ${recurrent.window} rows`, recurrent.horizon && `forecasts ${recurrent.horizon}`].filter(Boolean).join(", ")],
    ["Linear residuals", banks(network.residuals, "components")], ["Energies", banks(network.energies, "components")],
    ["Prototypes", banks(network.prototypes, "centres")],
    ["Score", { groups: "groups of errors, their root mean square", mahalanobis: "Mahalanobis distance of the errors" }[calibration.kind] ?? calibration.kind],
    ["Thresholds now", model.thresholds && `${number(model.thresholds.lowest)} to ${number(model.thresholds.highest)}, median ${number(model.thresholds.median)}; 1 as trained`],
    ["False alarms allowed", `${rate(model.false_alarms_per_s)} and stream`],
    ["Warm-up of a new stream", `${count(model.warmup_rows)} rows, ${duration(model.warmup_rows * model.period_s)}`],
    ["Seed", training.seed], ["Versions", Object.entries(model.versions ?? {}).map(([k, v]) => `${k} ${v}`).join(", ")],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  const numbers = Object.entries(calibration).filter(([, value]) => typeof value === "number");
  const panel = el("section", { class: "panel model" }, el("h2", {}, model.group),
    el("div", { class: "pair" },
      el("dl", {}, ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))])),
      el("div", {}, losses.length > 1 ? lossCurve(losses, training.best_step, groups) : el("p", { class: "empty" }, "No loss curve was recorded."))),
    el("details", {}, el("summary", {}, "Calibration"),
      el("dl", {}, ...numbers.flatMap(([name, value]) => [el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, number(value))]))));
  return panel;
}

function lossCurve(losses, best, groups) {
  const group = new ChartGroup();
  groups.push(group);
  const chart = group.add(new Chart(group, {
    lines: [{ label: "loss", colour: "accent", width: 1.8 }], height: 240, plain: true, floor: 0,
    label: `Loss on rows not trained on, from ${number(losses[0][1])} down to ${number(Math.min(...losses.map(([, loss]) => loss)))}`,
  }));
  chart.set([losses.map(([step]) => step), losses.map(([, loss]) => loss)]);
  return el("figure", {}, el("figcaption", {}, "Loss on rows not trained on, by training step",
    best ? el("span", { class: "muted" }, ` · step ${best} was kept`) : null), chart.root);
}

/** Banks of a model as `window of 16 rows, 8 components; …`. */
function banks(given, unit) {
  return (given ?? []).map(([window, size]) => `window of ${window} rows, ${size} ${unit}`).join("; ");
}

function list(names, most) {
  return names.length > most ? `${names.slice(0, most).join(", ")} and ${names.length - most} more` : names.join(", ");
}
