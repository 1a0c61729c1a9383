// A part of a stream's past, which the daemon reads from its journal: asked for when the choice has settled.

import { expected, get } from "./api.js";
import { count, duration, moment } from "./format.js";

const SETTLED_MS = 200;
const AGAIN_MS = 1000;

export class Past {
  /** `draw` is called with each answer, `note` with what to say of it and whether it is being read. */
  constructor(group, stream, { draw, note }) {
    Object.assign(this, { group, stream, draw, note });
    this.span = null; // [from, until] in seconds of event time; null: none is wanted
    this.begins = null; // from when on the journal has the stream, once it is known
    this.waiting = 0;
  }

  /** Ask for a span, null for none; a later one takes the place of an earlier one. It is cut to what there is. */
  ask(span) {
    this.span = span;
    clearTimeout(this.waiting);
    if (span === null) return this.note("", false);
    this.note("Reading the journal …", true);
    this.waiting = setTimeout(() => this.read(span), SETTLED_MS);
  }

  async read(span) {
    const [from_s, until_s] = span;
    const { group, stream } = this;
    try {
      const found = await get("stream/past", { group, stream, from_s, until_s, points: points() });
      if (this.span !== span) return;
      this.begins = found.read.journal_from_s;
      span[0] = found.read.from_s; // what is there fills the charts
      this.draw(found);
      this.note(sentences(found, span, from_s).join(" "), false);
    } catch (error) {
      expected(error);
      if (this.span !== span) return;
      this.note(error.status ? error.message : "The daemon does not answer.", true);
      if (error.status !== 404 && error.status !== 400) this.waiting = setTimeout(() => this.read(span), AGAIN_MS);
    }
  }

  close() {
    this.span = null;
    clearTimeout(this.waiting);
  }
}

/** As many as the widest chart has pixels, about. */
function points() {
  return Math.max(100, Math.min(1000, Math.round(document.documentElement.clientWidth / 2)));
}

/** What the answer is made of, and what it lacks. */
function sentences({ history, read }, [from_s, until_s], asked_s) {
  const said = [`From the journal: ${moment(from_s)} – ${moment(until_s)}, judged again by today's model.`];
  if (read.journal_from_s === null) return [...said, "There is none: state.durability is none, or nothing came yet."];
  if (!history.time_s.length) said.push("It has nothing of this stream in this time.");
  if (history.point_s) said.push(`Each point stands for ${duration(history.point_s)}, its lowest and its highest value.`);
  if (read.scored_every > 1) said.push(`One window in ${read.scored_every} is scored.`);
  if (!read.whole && read.pieces) {
    said.push(`It is too much to read whole: ${count(read.pieces)} pieces, evenly spread, are shown. Zoom in to see all.`);
  }
  if (asked_s < read.journal_from_s) said.push(`It begins ${moment(read.journal_from_s)}; nothing older is kept.`);
  return said;
}
