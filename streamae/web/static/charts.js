// Charts over time that zoom and point together. Drag to zoom, with a mouse or a finger; double-click to see everything
// again. Buttons do the same, and the arrow keys while one of them has the focus.

import { el } from "./dom.js";

const uPlot = globalThis.uPlot;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Charts with one time axis between them. */
export class ChartGroup {
  constructor() {
    this.key = uPlot.sync(`charts-${Math.random()}`);
    this.charts = new Set();
    this.zoom = null; // [min, max] in seconds; null: everything
    this.reach = null; // [min, max] of what there may be to see beyond what is drawn
    this.themed = () => { for (const chart of this.charts) chart.rebuild(); };
    window.addEventListener("themechange", this.themed);
  }

  close() {
    window.removeEventListener("themechange", this.themed);
    for (const chart of this.charts) chart.close();
    this.charts.clear();
  }

  add(chart) {
    this.charts.add(chart);
    return chart;
  }

  remove(chart) {
    chart.close();
    this.charts.delete(chart);
  }

  /** Show this part of the time on all charts; null: everything. */
  show(zoom) {
    this.zoom = zoom;
    for (const chart of this.charts) chart.applyZoom();
    if (this.whole) this.whole.disabled = zoom === null;
    this.zoomed?.(zoom);
  }

  /** The extent of what there is to see. */
  extent() {
    const times = [...this.charts].map((chart) => chart.columns[0]).filter((t) => t.length > 1);
    return times.length ? [Math.min(...times.map((t) => t[0])), Math.max(...times.map((t) => t.at(-1)))] : null;
  }

  /** What stands at the axis of time: nothing while there is nothing to see. */
  clocks(u, splits) {
    return this.zoom ?? this.extent() ? clocks(u, splits) : splits.map(() => "");
  }

  /** Zoom by a factor about the middle, and move by a part of what is shown. */
  scale(factor, move = 0) {
    const drawn = this.extent();
    const all = this.reach ?? drawn;
    if (!all) return;
    const [from, to] = this.zoom ?? drawn ?? all;
    const half = (to - from) * factor / 2;
    const middle = (from + to) / 2 + move * (to - from);
    if (2 * half >= all[1] - all[0]) return this.show(this.reach);
    const low = Math.max(all[0], Math.min(middle - half, all[1] - 2 * half));
    this.show([low, low + 2 * half]);
  }

  /** Buttons, for those who do not drag; `all` is what the last of them shows. */
  buttons(all = ["Show all", "Show the whole time"]) {
    const button = (sign, label, press) => el("button", { type: "button", class: "quiet", "aria-label": label, title: label, on: { click: press } }, sign);
    const moves = {
      ArrowUp: () => this.scale(0.5), ArrowDown: () => this.scale(2),
      ArrowLeft: () => this.scale(1, -0.5), ArrowRight: () => this.scale(1, 0.5), Escape: () => this.show(null),
    };
    const keys = (event) => {
      if (!moves[event.key]) return;
      event.preventDefault();
      moves[event.key]();
    };
    this.whole = button(...all, moves.Escape);
    this.whole.disabled = this.zoom === null;
    return el("span", { class: "zoom", role: "group", "aria-label": "Zoom in time; arrow keys too", on: { keydown: keys } },
      button("−", "Zoom out", moves.ArrowDown), button("+", "Zoom in", moves.ArrowUp),
      button("‹", "Earlier", moves.ArrowLeft), button("›", "Later", moves.ArrowRight), this.whole);
  }
}

/**
 * One chart. `lines` are {label, colour, width, dash, fill}; `columns` the times and one column a line; `spans` are
 * shaded [from, to]. `plain`: x is a number, not a time.
 */
export class Chart {
  constructor(group, { lines, height, label, floor, plain = false }) {
    Object.assign(this, { group, lines, height, floor, plain });
    this.columns = [[], ...lines.map(() => [])];
    this.spans = [];
    this.root = el("div", { class: "chart", role: "img", "aria-label": label });
    this.sized = new ResizeObserver(() => this.fit());
    this.sized.observe(this.root);
  }

  close() {
    this.sized.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }

  set(columns, spans = []) {
    this.columns = columns;
    this.spans = spans;
    if (!this.plot) return this.fit();
    this.plot.setData(columns);
  }

  applyZoom() {
    const [min, max] = this.span();
    this.plot?.setScale("x", { min, max });
  }

  /** The part of the time that is shown. */
  span() {
    const [from, to] = this.group.zoom ?? this.group.extent() ?? [0, 1];
    return [from, to > from ? to : from + 1];
  }

  fit() {
    const width = Math.floor(this.root.clientWidth);
    if (!width) return;
    if (this.plot) this.plot.setSize({ width, height: this.height });
    else this.build(width);
  }

  rebuild() {
    const width = this.plot?.width;
    this.plot?.destroy();
    this.plot = null;
    if (width) this.build(width);
  }

  build(width) {
    const axis = { stroke: colour("muted"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const floor = this.floor;
    this.plot = new uPlot({
      width, height: this.height,
      legend: { show: false },
      cursor: { sync: this.plain ? undefined : { key: this.group.key.key, setSeries: false }, points: { size: 5 }, drag: { x: true, y: false, setScale: false } },
      scales: {
        x: { time: !this.plain, range: () => this.span() },
        y: { range: (u, low, high) => (low === null ? [0, 1] : floor === undefined ? padded(low, high) : [floor, Math.max(high * 1.1, floor + 1e-9)]) },
      },
      axes: [
        { ...axis, space: 90, size: 26, values: this.plain ? undefined : (u, splits) => this.group.clocks(u, splits) },
        { ...axis, size: 54, space: 28 },
      ],
      series: [{}, ...this.lines.map((line) => ({
        label: "", stroke: colour(line.colour), width: line.width ?? 1.5, dash: line.dash,
        points: { show: false }, spanGaps: false,
      }))],
      hooks: {
        drawClear: [(u) => this.shade(u)],
        setSelect: [(u) => this.selected(u)],
        ready: [(u) => { u.over.addEventListener("dblclick", () => this.group.show(null)); touchable(u); }],
      },
    }, this.columns, this.root);
  }

  selected(u) {
    if (u.select.width < 4) return;
    this.group.show([u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")]);
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  }

  shade(u) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.fillStyle = colour("shade");
    for (const [from, to] of this.spans) {
      const left = Math.max(bbox.left, u.valToPos(from, "x", true));
      const right = Math.min(bbox.left + bbox.width, to === null ? Infinity : u.valToPos(to, "x", true));
      if (right > left) ctx.fillRect(left, bbox.top, Math.max(right - left, 2), bbox.height);
    }
    ctx.restore();
  }
}

/** Let a finger select as the mouse does; up and down it still scrolls the page (`touch-action`). */
function touchable(u) {
  let from = null;
  const select = (event, done) => {
    if (from === null) return;
    const left = Math.max(0, Math.min(from, event.offsetX));
    u.setSelect({ left, width: Math.min(Math.max(from, event.offsetX), u.over.clientWidth) - left, top: 0, height: u.over.clientHeight }, done);
    if (done) from = null;
  };
  u.over.addEventListener("pointerdown", (event) => { from = event.pointerType === "touch" && event.isPrimary ? event.offsetX : null; });
  u.over.addEventListener("pointermove", (event) => select(event, false));
  u.over.addEventListener("pointerup", (event) => select(event, true));
  u.over.addEventListener("pointercancel", () => { from = null; u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false); });
}

function padded(low, high) {
  const room = (high - low) * 0.08 || Math.abs(high) * 0.05 || 1;
  return [low - room, high + room];
}

const short = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const long = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false });

function clocks(u, splits) {
  const wide = splits.length > 1 && splits.at(-1) - splits[0] > 86400;
  return splits.map((s) => (wide ? long : short).format(new Date(1000 * s)));
}
