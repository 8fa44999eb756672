// @ts-check
// One plugin: what it costs, what is on trial, what happened to it, what it counts itself, and orders about it.

import { confirm, ORDERS, possible, reason } from "./actions.js";
import { attribute, el, keyed, say, show } from "./dom.js";
import * as format from "./format.js";
import { mark, STATES, table, text } from "./lists.js";
import { pairs } from "./service.js";

/** @param {any} context */
export function plugin(context) {
  const [name] = context.path;
  const state = el("div", { class: "lead" });
  const showState = mark((row) => [/** @type {any} */ (STATES)[row.state], row.state, row.reason]);
  const figures = el("dl", { class: "figures" });
  const about = el("dl", { class: "pairs" });
  /** @type {any} */
  let newest = null;
  const buttons = Object.entries(ORDERS).map(([order, { verb, danger, what }]) => {
    const button = el("button", { type: "button", class: danger ? "button danger-line" : "button", text: `${verb}…`, "data-order": order });
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") === "true" || !newest) return;
      confirm({ title: `${verb} ${name}?`, text: what(newest), verb, danger, path: `plugins/${encodeURIComponent(name)}/${order}` });
    });
    return { order, button };
  });
  const trial = el("div", { class: "sheet pad" }, el("h2", { text: "On trial" }), el("p", { class: "trial" }), el("progress", { max: 1 }), el("dl", { class: "figures" }));
  const history = table({
    caption: "History", key: (row) => JSON.stringify([row.at, row.what, row.generation, row.reason]),
    columns: [
      { head: "When", cell: text((row) => row.at.replace("T", " ").replace("Z", " UTC")) },
      { head: "What", cell: text((row) => row.what) },
      { head: "Generation", cell: text((row) => (row.generation ? `${row.generation}${row.version ? ` (${row.version})` : ""}` : "–")) },
      { head: "SHA-256", cell: (cell, row) => { cell.classList.add("mono"); say(cell, row.sha256?.slice(0, 12) ?? "–"); attribute(cell, "title", row.sha256); } },
      { head: "Why", wide: true, cell: text((row) => row.reason ?? "") },
    ],
  });
  const metrics = table({
    caption: "Metrics of its own", key: (row) => JSON.stringify([row.name, row.labels]),
    columns: [
      { head: "Metric", wide: true, cell: (cell, row) => {
        cell.name ??= cell.appendChild(el("span", { class: "mono" }));
        cell.below ??= cell.appendChild(el("span", { class: "below" }));
        say(cell.name, row.name);
        say(cell.below, row.help);
      } },
      { head: "Labels", wide: true, cell: text((row) => row.labels.map((/** @type {string[]} */ [label, value]) => `${label}=${value}`).join(", ") || "–") },
      { head: "Value", num: true, cell: text((row) => `${row.value.toLocaleString("en", { maximumFractionDigits: 3 })}${row.count === null ? "" : ` mean of ${format.count(row.count)}`}`) },
    ],
  });
  const noMetrics = el("p", { class: "empty small", text: "It counts nothing of its own." });
  const body = el(
    "div", {},
    el("div", { class: "sheet pad" }, state, el("div", { class: "buttons left", role: "group", "aria-label": "Orders" }, ...buttons.map(({ button }) => button)), figures, about),
    trial,
    el("div", { class: "sheet" }, el("h2", { class: "pad", text: "History" }), history),
    el("div", { class: "sheet" }, el("h2", { class: "pad", text: "Metrics of its own" }), metrics, noMetrics),
  );
  const gone = el("p", { class: "empty", hidden: true, text: "No plugin of that name is in use." });
  return {
    title: name,
    query: { view: "plugin", name },
    element: el("section", {}, el("p", { class: "crumb" }, el("a", { href: "#/plugins", text: "Plugins" })), el("h1", { text: name }), gone, body),
    /** @param {any} event */
    update(event) {
      newest = event.view;
      show(gone, !newest);
      show(body, Boolean(newest));
      if (!newest) return;
      showState(state, newest);
      for (const { order, button } of buttons) {
        const viewer = context.role !== "operator";
        const can = !viewer && possible(order, newest);
        attribute(button, "aria-disabled", can ? null : "true");
        attribute(button, "title", can ? null : reason(order, viewer));
      }
      const { figures: now, generation } = newest;
      pairs(figures, [
        ["Calls", `${format.rate(now.rate)} /s`], ["Failures", `${format.rate(now.failures)} /s`, now.failures > 0 ? "bad" : ""], ["A call", format.nanos(now.nanos)],
        ["Calls so far", format.count(newest.calls)], ["Failures so far", format.count(newest.failures), newest.failures > 0 ? "warn" : ""],
        ["Largest instance", generation ? format.bytes(generation.memoryBytes) : "–"], ["All instances", newest.shared ? format.bytes(newest.shared.memory) : "–"],
      ]);
      pairs(about, [
        ["Kind", newest.kind], ["Source", newest.source],
        ["Serves", generation ? `generation ${generation.number}${generation.version ? `, version ${generation.version}` : ""}${generation.quarantined ? ", quarantined" : ""}` : "none"],
        ["SHA-256", generation?.sha256 ?? "–"], ["Kept for a rollback", newest.kept.length ? newest.kept.map((/** @type {number} */ number) => `generation ${number}`).join(", ") : "none"],
        ["Shared state", newest.shared ? `${format.plural(newest.shared.entries, "entry", "entries")}, ${format.bytes(newest.shared.bytes)}${newest.shared.refusals ? `, ${format.count(newest.shared.refusals)} writes refused` : ""}` : "none"],
      ]);
      drawTrial(trial, newest.rollout);
      history.draw(newest.history);
      metrics.draw(newest.metrics?.rows ?? []);
      show(metrics, Boolean(newest.metrics?.rows.length));
      show(noMetrics, !newest.metrics?.rows.length);
    },
  };
}

/** @param {any} sheet @param {any} rollout */
function drawTrial(sheet, rollout) {
  show(sheet, Boolean(rollout));
  if (!rollout) return;
  const [, lead, progress, list] = sheet.children;
  const shadow = rollout.phase === "shadow";
  say(lead, `Generation ${rollout.generation}${rollout.version ? ` (${rollout.version})` : ""} ${shadow ? "is asked beside the live one, and its answers are only compared" : `serves ${rollout.weight} % of the exchanges`}: ${format.span(rollout.elapsedSeconds)} of ${format.span(rollout.durationSeconds)}.`);
  progress.value = Math.min(1, rollout.elapsedSeconds / Math.max(1, rollout.durationSeconds));
  attribute(progress, "aria-label", "How much of the trial has passed");
  const of = (/** @type {number} */ part, /** @type {number} */ whole) => (whole ? `${format.count(part)} (${format.share(part / whole)})` : "0");
  pairs(list, shadow
    ? [["Compared", format.count(rollout.compared)], ["Decided otherwise", of(rollout.differed, rollout.compared)]]
    : [["Exchanges", format.count(rollout.exchanges)], ["Errors", of(rollout.errors, rollout.exchanges), rollout.errors ? "warn" : ""], ["Live exchanges", format.count(rollout.liveExchanges)], ["Live errors", of(rollout.liveErrors, rollout.liveExchanges)]]);
}
