// @ts-check
// The overview: figures of the whole gateway, what to look at first, where traffic flows, and the busiest Services.

import { curve, Past } from "./charts.js";
import { attribute, el, keyed, say, show } from "./dom.js";
import { flow } from "./flow.js";
import * as format from "./format.js";
import { readiness, serviceColumns, serviceHref, STATES, table } from "./lists.js";

const SECONDS = 120;

/** @param {string} title */
function tile(title) {
  const value = el("span", { class: "value" });
  const aside = el("span", { class: "aside" });
  const line = curve(36);
  const element = el("div", { class: "tile" }, el("h2", { text: title }), el("p", {}, value, aside), line);
  return { element, value, aside, line };
}

/** @param {any} context */
export function overview(context) {
  const tiles = { requests: tile("Requests"), errors: tile("Errors"), time: tile("Time of an exchange"), open: tile("Connections"), bytes: tile("Bytes") };
  tiles.bytes.line.remove();
  const traffic = el("dl", { class: "pairs" }, ...["from clients", "to clients", "under way"].flatMap((name) => [el("dt", { text: name }), el("dd", {})]));
  tiles.bytes.element.append(traffic);
  const attention = el("ul", { class: "attention" });
  const calm = el("p", { class: "empty small", text: "Nothing needs attention: all Services have their endpoints, all plugins serve, and nothing is wrong with the configuration." });
  const drawing = flow();
  const past = new Past(60);
  const busiest = table({ caption: "The busiest Services", columns: serviceColumns(past).map((column) => ({ ...column, sort: undefined })), key: (row) => `${row.namespace}/${row.name}:${row.port}/${row.protocol}` });
  const own = el("p", { class: "below" });
  /** @type {any[]} */
  let points = [];
  return {
    title: "Overview",
    query: { view: "overview" },
    element: el(
      "section", { class: "overview" },
      el("h1", { class: "hide", text: "Overview" }),
      el("div", { class: "tiles" }, ...Object.values(tiles).map((one) => one.element)),
      el("div", { class: "sheet pad" }, el("h2", { text: "To look at first" }), attention, calm),
      el("div", { class: "sheet pad" }, el("h2", { text: "Where traffic flows" }), drawing),
      el("div", { class: "sheet" }, el("h2", { class: "pad", text: "Busiest Services" }), busiest),
    ),
    /** @param {any} event */
    update(event) {
      if (event.curve) points = event.curve;
      else if (event.point) points = [event.point, ...points].slice(0, SECONDS);
      const totals = event.totals;
      const draw = (/** @type {any} */ one, /** @type {number} */ at) => one.line.draw(points.map((point) => point[at]).reverse(), SECONDS);
      const set = (/** @type {any} */ one, /** @type {string} */ value, /** @type {string} */ aside) => (say(one.value, value), say(one.aside, aside));
      set(tiles.requests, format.rate(totals.requests), "/s");
      draw(tiles.requests, 0);
      const answers = event.view.ownAnswers.sort((/** @type {any} */ a, /** @type {any} */ b) => b.rate - a.rate).slice(0, 2);
      set(tiles.errors, format.rate(totals.errors), totals.requests > 0 ? `/s · ${format.share(Math.min(1, totals.errors / totals.requests))}` : "/s");
      say(own, answers.length ? `answered here: ${answers.map((/** @type {any} */ answer) => `${answer.reason} ${format.rate(answer.rate)} /s`).join(", ")}` : "");
      if (!own.parentElement) tiles.errors.element.insertBefore(own, tiles.errors.line);
      tiles.errors.element.classList.toggle("hot", totals.errors > Math.max(0.005, totals.requests * 0.01));
      draw(tiles.errors, 1);
      set(tiles.time, format.time(totals.p50), totals.p99 === null ? "p50" : `p50 · ${format.time(totals.p99)} p99`);
      draw(tiles.time, 3);
      set(tiles.open, format.count(totals.open), `open · ${format.rate(totals.connections)} new /s`);
      draw(tiles.open, 4);
      set(tiles.bytes, format.bytes(totals.bytesIn + totals.bytesOut), "/s");
      const [from, to, under] = traffic.querySelectorAll("dd");
      say(from, `${format.bytes(totals.bytesIn)}/s`);
      say(to, `${format.bytes(totals.bytesOut)}/s`);
      say(under, format.count(totals.inFlight));
      const all = toLookAt(event);
      keyed(attention, all, (one) => one.key, () => el("li", {}, el("span", { class: "mark" }), el("a", {}), el("span", { class: "below" })), (child, one) => {
        const [mark, link, below] = child.children;
        attribute(mark, "class", `mark ${one.tone}`);
        say(mark, one.word);
        attribute(link, "href", one.href);
        say(link, one.text);
        say(below, one.below ?? "");
      });
      show(calm, all.length === 0);
      drawing.draw(event.view.flow);
      busiest.draw(event.view.busiest);
    },
  };
}

/** What an operator should look at first, the worst first. @param {any} event */
function toLookAt(event) {
  const { view, counts } = event;
  const all = [];
  for (const fault of view.faults)
    all.push({ key: `f${fault.message}${fault.object}`, tone: fault.severity === "error" ? "bad" : "warn", word: fault.severity, text: fault.message, href: "#/faults", below: fault.place ? `${fault.place.file}:${fault.place.line}` : (fault.object ?? "") });
  const more = counts.errors + counts.warnings - view.faults.length;
  if (more > 0) all.push({ key: "faults", tone: "warn", word: "faults", text: `and ${format.plural(more, "more fault")}`, href: "#/faults" });
  for (const plugin of view.plugins) {
    const trial = plugin.rollout ? `generation ${plugin.rollout.generation} is on trial (${plugin.rollout.phase}, ${format.span(plugin.rollout.elapsedSeconds)} of ${format.span(plugin.rollout.durationSeconds)})` : "";
    all.push({ key: `p${plugin.name}`, tone: plugin.rollout && plugin.state === "active" ? "note" : /** @type {any} */ (STATES)[plugin.state], word: plugin.rollout ? "rollout" : plugin.state, text: `Plugin ${plugin.name}`, href: `#/plugin/${encodeURIComponent(plugin.name)}`, below: plugin.reason ?? trial });
  }
  for (const row of view.troubled) {
    const [tone, word] = readiness(row.figures);
    const failing = row.figures.errors + row.figures.connectFailures;
    all.push({ key: `s${row.namespace}/${row.name}:${row.port}/${row.protocol}`, tone: failing > Math.max(0.005, row.figures.rate * 0.01) ? "bad" : tone, word: "Service", text: `${row.namespace}/${row.name}:${row.port}`, href: serviceHref(row.namespace, row.name, row.port, row.protocol), below: `${word === "none" ? "no endpoint" : `${word} endpoints ready`}${failing > 0.005 ? `, ${format.rate(failing)} errors /s` : ""}` });
  }
  const left = view.troubledCount - view.troubled.length;
  if (left > 0) all.push({ key: "services", tone: "warn", word: "Services", text: `and ${format.plural(left, "more service port")}`, href: "#/services?only=troubled" });
  return all;
}
