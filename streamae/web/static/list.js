// A list of any length: only the lines in sight exist, and only their part of the ranking is asked for, in blocks.

import { expected } from "./api.js";
import { el } from "./dom.js";

const BLOCK = 100;
const OVERSCAN = 6;

/**
 * `ask(offset, limit)` gives {total, streams}; `line()` makes {root, show(item)} for one place. Lines are as high as
 * the first one is. Arrow, page, Home and End keys walk through the lines.
 */
export class VirtualList {
  constructor({ ask, line, label, changed }) {
    Object.assign(this, { ask, line, changed });
    this.total = 0;
    this.blocks = new Map(); // number of a block -> its items
    this.asked = new Set();
    this.age = 0; // answers to older questions are not shown
    this.lines = [];
    this.active = 0;
    this.height = 0;
    this.space = el("div", { class: "space" });
    this.root = el("div", { class: "lines", role: "list", "aria-label": label, on: {
      scroll: () => this.draw(), keydown: (event) => this.walk(event),
    } }, this.space);
    this.sized = new ResizeObserver(() => { this.measure(); this.draw(); });
    this.sized.observe(this.root);
  }

  close() {
    this.sized.disconnect();
    this.age += 1;
  }

  /** Start over, as for another search. */
  reset() {
    this.age += 1;
    this.blocks.clear();
    this.asked.clear();
    this.root.scrollTop = 0;
    this.active = 0;
    this.refresh();
  }

  /** Ask again for what is in sight; blocks out of sight are forgotten, since their ranks have moved. */
  refresh() {
    const [first, last] = this.sight();
    const seen = new Set(blocksOf(first, last));
    for (const number of this.blocks.keys()) if (!seen.has(number)) this.blocks.delete(number);
    for (const number of seen) this.fetch(number);
  }

  async fetch(number) {
    if (this.asked.has(number)) return;
    const age = this.age;
    this.asked.add(number);
    try {
      const { total, streams } = await this.ask(number * BLOCK, BLOCK);
      if (age !== this.age) return;
      this.total = total;
      this.blocks.set(number, streams);
      this.changed?.(total);
      this.draw();
    } catch (error) {
      expected(error);
    } finally {
      if (age === this.age) this.asked.delete(number);
    }
  }

  measure() {
    const probe = this.lines[0] ?? this.make();
    probe.root.hidden = false; // what is hidden has no height; `draw` hides it again
    const height = probe.root.offsetHeight || 44;
    if (height === this.height) return;
    this.height = height;
    for (const line of this.lines) line.place = undefined; // all of them stand elsewhere now
  }

  make() {
    const line = this.line();
    line.root.style.position = "absolute";
    this.lines.push(line);
    this.space.append(line.root);
    return line;
  }

  sight() {
    if (!this.height) this.measure();
    const first = Math.max(0, Math.floor(this.root.scrollTop / this.height) - OVERSCAN);
    const shown = Math.ceil(this.root.clientHeight / this.height) + 2 * OVERSCAN;
    return [first, Math.max(first, Math.min(this.total - 1, first + shown))];
  }

  draw() {
    const [first, last] = this.sight();
    this.space.style.height = `${this.total * this.height}px`;
    const wanted = this.total ? last - first + 1 : 0;
    while (this.lines.length < wanted) this.make();
    for (let place = first; place < first + this.lines.length; place += 1) {
      const line = this.lines[place % this.lines.length]; // a line keeps its place while one scrolls
      const item = place <= last && this.total ? this.item(place) : undefined;
      line.root.hidden = place > last || !this.total;
      if (line.root.hidden) continue;
      if (line.place !== place) {
        line.place = place;
        line.root.style.transform = `translateY(${place * this.height}px)`;
        line.root.setAttribute("aria-posinset", place + 1);
      }
      line.root.setAttribute("aria-setsize", this.total);
      line.link.tabIndex = place === this.active ? 0 : -1;
      if (line.item !== item) {
        line.item = item;
        line.show(item);
      }
    }
    for (const number of blocksOf(first, last)) if (!this.blocks.has(number)) this.fetch(number);
  }

  item(place) {
    return this.blocks.get(Math.floor(place / BLOCK))?.[place % BLOCK];
  }

  walk(event) {
    const page = Math.max(1, Math.floor(this.root.clientHeight / this.height) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !this.total) return;
    event.preventDefault();
    this.active = Math.min(this.total - 1, Math.max(0, this.active + step));
    const top = this.active * this.height;
    const bottom = top + this.height - this.root.clientHeight;
    if (this.root.scrollTop > top) this.root.scrollTop = top;
    if (this.root.scrollTop < bottom) this.root.scrollTop = bottom;
    this.draw();
    this.lines.find((line) => line.place === this.active)?.link.focus({ preventScroll: true });
  }
}

function blocksOf(first, last) {
  const numbers = [];
  for (let n = Math.floor(first / BLOCK); n <= Math.floor(Math.max(first, last) / BLOCK); n += 1) numbers.push(n);
  return numbers;
}
