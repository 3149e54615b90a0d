// Elements from plain values. Text goes in as text nodes only: what a catalogue says is never read as markup.

/** Return an element with attributes (a function is a listener, null and false are left out) and children. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Return the element of this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Put text into a line that keeps its height when there is nothing to say. */
export function say(line, text) {
  const shown = text || "\u00a0";
  if (line.textContent !== shown) line.textContent = shown;
}

/** Return a number between 0 and `below` that is always the same for a text. */
export function hash(text, below) {
  let value = 2166136261;
  for (const character of text) value = Math.imul(value ^ character.codePointAt(0), 16777619) >>> 0;
  return value % below;
}
