// @ts-check
// Elements, made and brought up to date. Text from elsewhere (names, hosts, messages of plugins) only ever becomes text.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element. Properties are attributes; `on…` are listeners, `text` is the text.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {any}
 */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/**
 * Makes an element of a drawing.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {any}
 */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

/** @param {any} element @param {Record<string, any>} properties @param {any[]} children */
function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") element.textContent = visible(value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else attribute(element, name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// What nobody sees: controls, marks of direction, what has no width or fills, spaces other than the usual one, and what is private or unassigned. The gateway writes
// such characters in the same way (`model::escape`); in its JSON they are escapes, which become characters again here.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Zl}\p{Zp}\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0]/gu;

/** The text, in which everything can be seen. @param {any} text */
export function visible(text) {
  return String(text).replace(HIDDEN, (character) => `\\u{${/** @type {number} */ (character.codePointAt(0)).toString(16)}}`);
}

/** Sets an attribute, or removes it where there is no value. @param {Element} element @param {string} name @param {any} value */
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else {
    const text = value === true ? "" : visible(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

/** Sets the text, if it is another one: who reads it with a screen reader is not disturbed. @param {Element} element @param {any} text */
export function say(element, text) {
  const wanted = text === null || text === undefined ? "" : visible(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/**
 * Brings the children of an element up to date with a list. Children stay the same elements, so that the focus and a selection stay where they are.
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} key
 * @param {(item: T) => any} make
 * @param {(child: any, item: T) => void} update
 */
export function keyed(parent, items, key, make, update) {
  /** @type {Map<string, any>} */
  const known = new Map();
  for (const child of parent.children) known.set(/** @type {any} */ (child).key, child);
  let at = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = known.get(name);
    known.delete(name);
    if (!child) {
      child = make(item);
      child.key = name;
    }
    if (at && child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
    update(child, item);
  }
  for (const child of known.values()) child.remove();
}

/** Shows or hides an element. @param {any} element @param {boolean} shown */
export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}
