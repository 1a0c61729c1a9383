// Building elements. Text is always a text node, so whatever a topic is called, it stays text.

const SVG = "http://www.w3.org/2000/svg";
const UNSEEN = /[\p{Default_Ignorable_Code_Point}\p{Cf}\p{Zl}\p{Zp}]|(?![\n\t])\p{Cc}/gu;
const READ = new Set(["title", "aria-label", "placeholder"]);

/** A text in which what has no shape of its own can be seen: `l/\u{202e}gnp` would be read as `l/png`. */
export function visible(value) {
  return typeof value === "string" ? value.replace(UNSEEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`) : value;
}

/** An element with attributes; `on` holds listeners, `class` the class; null, false and undefined are left out. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name, value === true ? "" : READ.has(name) ? visible(value) : value);
  }
  for (const [name, listener] of Object.entries(on)) node.addEventListener(name, listener);
  node.append(...children.filter((child) => child !== null && child !== undefined).map(visible));
  return node;
}

/** Set the text of a node only where it changes: a screen reader and the layout are not disturbed for nothing. */
export function text(node, given) {
  const value = visible(given);
  if (node.textContent !== value) node.textContent = value;
}

/** A labelled select; `options` are [value, label]. */
export function select(label, options, value, changed) {
  const box = el("select", { "aria-label": label, on: { change: () => changed(box.value) } });
  setOptions(box, options, value);
  return box;
}

export function setOptions(box, options, value) {
  box.replaceChildren(...options.map(([v, name]) => el("option", { value: v, selected: v === value }, name)));
}

/** The badge of a state or a severity. */
export function badge(state) {
  return el("span", { class: `badge ${/^[a-z]+$/.test(state) ? state : "none"}` }, state.replaceAll("_", " "));
}
