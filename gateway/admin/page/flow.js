// @ts-check
// Where traffic flows: listeners, rules, Services and endpoints in four columns, and curves from one to the next whose width says how much goes there. Nodes are
// links with text; the curves are a drawing behind them. In a narrow window the columns stand below one another, and each node names what it leads to.

import { attribute, el, keyed, say, show, svg } from "./dom.js";
import * as format from "./format.js";
import { hrefOf, readiness } from "./lists.js";

const HEIGHT = 46;
const GAP = 10;
/** Width of a column, and from the beginning of one to that of the next, in percent. */
const COLUMN = 20.5;
const STEP = 26.5;
const COLUMNS = ["listeners", "routes", "services", "endpoints"];
const HEADS = { listeners: "Listeners", routes: "Rules", services: "Services", endpoints: "Endpoints" };

export function flow() {
  const drawing = svg("svg", { class: "links", preserveAspectRatio: "none", "aria-hidden": "true" });
  const columns = COLUMNS.map((name) => {
    const list = el("ul", {});
    const more = el("p", { class: "below" });
    return { name, list, more, element: el("div", { class: "column" }, el("h3", { text: /** @type {any} */ (HEADS)[name] }), list, more) };
  });
  const stage = el("div", { class: "stage" }, drawing, ...columns.map((column) => column.element));
  const empty = el("p", { class: "empty", text: "Nothing is listened on yet. A Service with a port, or a Gateway with a route, appears here when it serves." });
  const element = el("div", { class: "flow", role: "group", "aria-label": "Where traffic flows" }, stage, empty);

  /** @param {any} shown */
  element.draw = (shown) => {
    const links = shown.links;
    const names = new Map(COLUMNS.flatMap((name) => shown[name].map((/** @type {any} */ node) => [node.id, nameOf(node)])));
    const place = new Map();
    COLUMNS.forEach((name, column) => {
      // A node stands at the mean height of those that lead to it, so that few curves cross.
      const height = (/** @type {any} */ node) => {
        const from = links.filter((/** @type {any} */ link) => link.to === node.id && place.has(link.from)).map((/** @type {any} */ link) => place.get(link.from).middle);
        return from.length ? from.reduce((/** @type {number} */ a, /** @type {number} */ b) => a + b, 0) / from.length : 0.5;
      };
      const nodes = shown[name].map((/** @type {any} */ node, /** @type {number} */ i) => ({ node, i, height: height(node) }));
      // Listeners with most traffic come first, as far as it is known by which of them it came.
      const sent = (/** @type {any} */ one) => links.filter((/** @type {any} */ link) => link.from === one.node.id).reduce((/** @type {number} */ sum, /** @type {any} */ link) => sum + (link.rate ?? 0), 0);
      const order = column === 0 ? (/** @type {any} */ a, /** @type {any} */ b) => Math.round(Math.log2(1 + sent(b))) - Math.round(Math.log2(1 + sent(a))) : (/** @type {any} */ a, /** @type {any} */ b) => a.height - b.height;
      nodes.sort((/** @type {any} */ a, /** @type {any} */ b) => order(a, b) || a.i - b.i);
      shown[name] = nodes.map((/** @type {any} */ one) => one.node);
      shown[name].forEach((/** @type {any} */ node, /** @type {number} */ i) => place.set(node.id, { column, i, middle: (i + 0.5) / nodes.length, of: nodes.length }));
    });
    const most = Math.max(...COLUMNS.map((name) => shown[name].length), 1);
    const total = most * (HEIGHT + GAP);
    const top = (/** @type {any} */ at) => (total * (at.i + 0.5)) / at.of - HEIGHT / 2;
    stage.style.setProperty("--height", `${total}px`);
    columns.forEach(({ name, list, more }) => {
      keyed(list, shown[name], (node) => node.id, () => el("li", {}, el("a", { class: "node" }, el("span", { class: "name" }), el("span", { class: "about" }), el("span", { class: "leads" }))), (child, node) => {
        child.style.setProperty("--top", `${top(place.get(node.id))}px`);
        drawNode(child.firstChild, name, node, links.filter((/** @type {any} */ link) => link.from === node.id).map((/** @type {any} */ link) => names.get(link.to)));
      });
      const hidden = shown.hidden[name] ?? 0;
      say(more, hidden ? `and ${format.count(hidden)} more${name === "endpoints" ? "" : " with less traffic"}` : "");
      show(/** @type {any} */ (list.parentElement), shown[name].length > 0);
    });
    const largest = Math.max(...links.map((/** @type {any} */ link) => link.rate ?? 0), 1e-9);
    attribute(drawing, "viewBox", `0 0 1000 ${total}`);
    keyed(drawing, links.filter((/** @type {any} */ link) => place.has(link.from) && place.has(link.to)), (link) => `${link.from} ${link.to}`, () => svg("path", { "vector-effect": "non-scaling-stroke" }), (path, link) => {
      const [a, b] = [place.get(link.from), place.get(link.to)];
      const [x1, x2] = [(a.column * STEP + COLUMN) * 10, b.column * STEP * 10];
      const [y1, y2] = [top(a) + HEIGHT / 2, top(b) + HEIGHT / 2];
      const bend = Math.min((x2 - x1) / 2, 80);
      attribute(path, "d", `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`);
      attribute(path, "class", link.rate ? "moves" : "rests");
      path.style.strokeWidth = `${(1 + 8 * Math.sqrt((link.rate ?? 0) / largest)).toFixed(1)}px`;
    });
    show(stage, place.size > 0);
    show(empty, place.size === 0);
  };
  return element;
}

/** @param {any} node */
const nameOf = (node) => node.name ?? node.address ?? `${node.more} more`;

/**
 * What a listener's name says, and of whom.
 * @param {string} name
 */
function inShort(name) {
  const found = /^(?:listener )?(.+?) of (Gateway )?(.+)$/.exec(name);
  return found ? [found[2] ? `${found[3]}: ${found[1]}` : found[1], ""] : [name, ""];
}

/** @param {any} element @param {string} column @param {any} node @param {string[]} leads */
function drawNode(element, column, node, leads) {
  const [name, about, next] = element.children;
  say(name, nameOf(node));
  attribute(name, "title", nameOf(node));
  let tone = "";
  let below = "";
  let href = null;
  if (column === "listeners") {
    const [short, of] = inShort(node.name);
    say(name, short);
    below = `${of}${(node.addresses ?? [node.address]).join(", ")}`;
    href = `#/listeners?q=${encodeURIComponent(node.name)}`;
  } else if (column === "routes") {
    say(name, node.name.replace(/^[A-Z]+Route /, ""));
    below = node.broken ? "leads to what does not exist" : `${format.rate(node.rate)} /s${node.does ? ` · ${node.does}` : ""}`;
    tone = node.broken ? "bad" : "";
    href = `#/routes?q=${encodeURIComponent(node.name)}`;
  } else if (column === "services") {
    const [color, word] = readiness(node);
    tone = color;
    below = `${format.rate(node.rate)} /s · ${word} ready${node.errors > 0.005 ? ` · ${format.rate(node.errors)} errors /s` : ""}`;
    href = hrefOf(node.name, node.protocol === "UDP");
  } else if (node.more) {
    say(name, `and ${node.more} more`);
  } else {
    tone = node.state === "ready" || node.state === "warming" ? "good" : node.state === "terminating" ? "warn" : "bad";
    below = `${format.rate(node.rate)} /s · ${node.state === "ready" ? format.time(node.latency || null) : node.state}`;
  }
  attribute(element, "class", `node ${tone}`);
  attribute(element, "href", href);
  say(about, below);
  say(next, leads.length ? `to ${leads.slice(0, 4).join(", ")}${leads.length > 4 ? ` and ${leads.length - 4} more` : ""}` : "");
}
