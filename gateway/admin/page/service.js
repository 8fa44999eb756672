// @ts-check
// One service port: its figures, where it is reached, and its endpoints.

import { Past } from "./charts.js";
import { attribute, el, keyed, say, show } from "./dom.js";
import * as format from "./format.js";
import { mark, rateCurve, readiness, serviceHref, table, text } from "./lists.js";

const TONES = { ready: "good", warming: "good", pending: "warn", terminating: "warn", "not-ready": "bad", unhealthy: "bad", ejected: "bad" };

/** @param {any} context */
export function service(context) {
  const [namespace, name, port, protocol] = context.path;
  const asked = { view: "service", name: `${namespace}/${name}:${port}/${protocol}`, q: "", offset: 0, sort: "" };
  const again = (/** @type {any} */ what) => context.again(Object.assign(asked, { offset: 0 }, what));
  const figures = el("dl", { class: "figures" });
  const about = el("dl", { class: "pairs" });
  const ports = el("ul", { class: "chips" });
  const past = new Past(60);
  const rows = table({
    caption: "Endpoints", key: (row) => row.address, sorted: (sort) => again({ sort: sort === asked.sort ? "" : sort }),
    columns: [
      { head: "Endpoint", cell: (cell, row) => { cell.classList.add("mono"); say(cell, row.address); } },
      { head: "State", wide: true, cell: mark((row) => [/** @type {any} */ (TONES)[row.state] ?? "warn", row.state, row.reason]) },
      { head: "Weight", num: true, cell: text((row) => format.count(row.weight)) },
      { head: "Rate /s", num: true, cell: rateCurve(past, (row) => row.address, (row) => row.rate) },
      { head: "In flight", num: true, sort: "inFlight", cell: text((row) => format.count(row.inFlight)) },
      { head: "Latency", num: true, cell: text((row) => format.time(row.latency || null)) },
      { head: "Success", num: true, cell: (cell, row) => { say(cell, format.share(row.success)); cell.classList.toggle("hot", row.success < 0.99); } },
      { head: "Where", cell: text((row) => [row.zone, row.node].filter(Boolean).join(" · ") || "–") },
    ],
  });
  const search = el("input", { type: "search", id: "search", placeholder: "Search address, state, zone or node", "aria-label": "Search endpoints", autocomplete: "off", spellcheck: "false", maxlength: "100" });
  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = window.setTimeout(() => again({ q: search.value.trim() }), 250);
  });
  const found = el("span", { class: "found", role: "status" });
  const back = el("button", { type: "button", class: "button small", text: "Previous", onclick: () => again({ offset: Math.max(0, asked.offset - 50) }) });
  const on = el("button", { type: "button", class: "button small", text: "Next", onclick: () => again({ offset: asked.offset + 50 }) });
  const empty = el("p", { class: "empty", hidden: true });
  const body = el("div", {}, el("div", { class: "sheet pad" }, figures, about), el("div", { class: "bar" }, el("h2", { text: "Endpoints" }), search, found, el("div", { class: "pages" }, back, on)), el("div", { class: "sheet" }, rows, empty));
  const gone = el("p", { class: "empty", hidden: true, text: "There is no such service port. It may have been removed; the list of Services has those that there are." });
  return {
    title: `${namespace}/${name}:${port}`,
    query: { ...asked },
    element: el("section", {}, el("p", { class: "crumb" }, el("a", { href: "#/services", text: "Services" })), el("h1", { text: `${namespace}/${name}` }), ports, gone, body),
    /** @param {any} event */
    update(event) {
      const shown = event.view;
      show(gone, !shown);
      show(body, Boolean(shown));
      if (!shown) return;
      asked.offset = shown.offset;
      keyed(ports, shown.ports, (one) => `${one.port}/${one.protocol}`, () => el("li", {}, el("a", {})), (child, one) => {
        attribute(child.firstChild, "href", serviceHref(namespace, name, one.port, one.protocol));
        attribute(child.firstChild, "aria-current", String(one.port) === port && one.protocol === protocol ? "page" : null);
        say(child.firstChild, `${one.port}/${one.protocol}${one.portName ? ` ${one.portName}` : ""}`);
      });
      const of = shown.service.figures;
      const [tone, word] = readiness(of);
      pairs(figures, [
        ["Endpoints", word, tone], ["Rate", `${format.rate(of.rate)} /s`], ["Errors", `${format.rate(of.errors)} /s`, of.errors > 0.005 ? "bad" : ""],
        ["Failed connects", `${format.rate(of.connectFailures)} /s`, of.connectFailures > 0.005 ? "bad" : ""],
        ["p50", format.time(of.p50)], ["p99", format.time(of.p99)], ["In flight", format.count(of.inFlight)],
        ["In", `${format.bytes(of.bytesIn)}/s`], ["Out", `${format.bytes(of.bytesOut)}/s`],
      ]);
      pairs(about, [
        ["Type", shown.service.type], ["Balancer", shown.service.balancer], ["ClusterIPs", shown.clusterIPs.join(", ") || "none"],
        ["External addresses", shown.externalIPs.join(", ") || "none"], ["Node port", shown.nodePort ?? "none"],
        ["Reached straight by", shown.listeners.map((/** @type {any} */ one) => `${one.name} (${one.address})`).join("; ") || "no listener: by routes only"],
      ]);
      rows.draw(shown.rows, asked.sort);
      say(found, `${format.count(shown.found)} of ${format.count(shown.all)}`);
      show(back.parentElement, shown.found > shown.most);
      back.disabled = shown.offset === 0;
      on.disabled = shown.offset + shown.rows.length >= shown.found;
      show(rows, shown.rows.length > 0);
      show(empty, shown.rows.length === 0);
      say(empty, shown.all === 0 ? "No endpoint was found: requests are answered 503. Do Pods match the Service's selector, and are they ready? Explain says what is missing." : "No endpoint is like that.");
    },
  };
}

/** Pairs of a name and a value. @param {any} list @param {any[][]} all */
export function pairs(list, all) {
  keyed(list, all, ([name]) => name, ([name]) => el("div", {}, el("dt", { text: name }), el("dd", {})), (child, [, value, tone]) => {
    attribute(child, "class", tone || null);
    say(child.lastChild, value);
  });
}
