// Building elements. Text is always a text node, so whatever a topic is called, it stays text.

const SVG = "http://www.w3.org/2000/svg";

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
    node.setAttribute(name, value === true ? "" : value);
  }
  for (const [name, listener] of Object.entries(on)) node.addEventListener(name, listener);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Set the text of a node only where it changes: a screen reader and the layout are not disturbed for nothing. */
export function text(node, value) {
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
