// @ts-check
// Lists: tables that the gateway filters, sorts and cuts into pages, so that there are never more than 50 rows here.

import { curve, Past } from "./charts.js";
import { attribute, el, keyed, say, show } from "./dom.js";
import * as format from "./format.js";

/**
 * A column. `cell` brings a cell up to date; it is called once a second.
 * @typedef {{ head: string, num?: boolean, sort?: string, wide?: boolean, cell: (cell: any, row: any) => void }} Column
 */

/**
 * A table whose rows stay the same elements while their figures change.
 * @param {{ caption: string, columns: Column[], key: (row: any) => string, sorted?: (by: string) => void, tone?: (row: any) => string }} of
 */
export function table({ caption, columns, key, sorted, tone }) {
  const heads = columns.map((column) => {
    const head = el("th", { scope: "col", role: "columnheader", class: column.num ? "num" : null });
    if (column.sort && sorted) {
      const by = column.sort;
      head.append(el("button", { type: "button", class: "sort", text: column.head, onclick: () => sorted(by) }));
    } else head.append(column.head);
    return head;
  });
  const body = el("tbody", { role: "rowgroup" });
  const element = el("table", { class: "rows", role: "table" }, el("caption", { class: "hide", text: caption }), el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads)), body);
  /** @param {any[]} rows @param {string} [sort] */
  element.draw = (rows, sort) => {
    columns.forEach((column, i) => {
      if (column.sort && sorted) attribute(heads[i], "aria-sort", sort === column.sort ? (column.sort === "name" ? "ascending" : "descending") : "none");
    });
    keyed(
      body,
      rows,
      key,
      () =>
        el(
          "tr",
          { role: "row" },
          ...columns.map((column, i) => el(i === 0 ? "th" : "td", { role: i === 0 ? "rowheader" : "cell", scope: i === 0 ? "row" : null, class: [column.num && "num", column.wide && "wide"].filter(Boolean).join(" ") || null, "data-head": column.head })),
        ),
      (line, row) => {
        attribute(line, "class", tone?.(row) || null);
        columns.forEach((column, i) => column.cell(line.children[i], row));
      },
    );
  };
  return element;
}

/** A cell with a text. @param {(row: any) => any} of */
export const text = (of) => (/** @type {any} */ cell, /** @type {any} */ row) => say(cell, of(row));

/**
 * A cell that leads somewhere, with a second line if there is one.
 * @param {(row: any) => string} of @param {(row: any) => string} to @param {(row: any) => string} [below]
 */
export const link = (of, to, below) => (/** @type {any} */ cell, /** @type {any} */ row) => {
  if (!cell.link) {
    cell.link = el("a", {});
    cell.below = el("span", { class: "below" });
    cell.append(cell.link, cell.below);
  }
  attribute(cell.link, "href", to(row));
  say(cell.link, of(row));
  say(cell.below, below ? below(row) : "");
};

/** A cell with a mark: a colour and the word for it. @param {(row: any) => [string, string, string?]} of tone, word and reason */
export const mark = (of) => (/** @type {any} */ cell, /** @type {any} */ row) => {
  const [tone, word, why] = of(row);
  if (!cell.mark) {
    cell.mark = el("span", {});
    cell.below = el("span", { class: "below" });
    cell.append(cell.mark, cell.below);
  }
  attribute(cell.mark, "class", `mark ${tone}`);
  say(cell.mark, word);
  say(cell.below, why ?? "");
};

/** A cell with lines. @param {(row: any) => string[]} of */
export const lines = (of) => (/** @type {any} */ cell, /** @type {any} */ row) => {
  cell.list ??= cell.appendChild(el("ul", { class: "lines" }));
  const all = of(row).map((line, i) => ({ line, i }));
  keyed(cell.list, all, ({ i }) => String(i), () => el("li"), (child, { line }) => say(child, line));
};

/** A cell with a rate and its curve. @param {Past} past @param {(row: any) => string} key @param {(row: any) => number} of */
export const rateCurve = (past, key, of) => (/** @type {any} */ cell, /** @type {any} */ row) => {
  if (!cell.curve) {
    cell.curve = curve(24);
    cell.figure = el("span", {});
    cell.append(cell.curve, cell.figure);
    cell.classList.add("with-curve");
  }
  say(cell.figure, format.rate(of(row)));
  cell.curve.draw(past.note(key(row), of(row)), past.room);
};

/** The address of a Service's page. @param {string} namespace @param {string} name @param {number} port @param {string} protocol */
export const serviceHref = (namespace, name, port, protocol) => `#/service/${[namespace, name, port, protocol].map(encodeURIComponent).join("/")}`;

/** From `namespace/name:port` to its page. @param {string} service @param {boolean} [udp] */
export function hrefOf(service, udp = false) {
  const [, namespace, name, port] = /^([^/]*)\/(.*):(\d+)$/.exec(service) ?? ["", "", service, "0"];
  return serviceHref(namespace, name, Number(port), udp ? "UDP" : "TCP");
}

/** @param {any} figures @returns {[string, string, string?]} */
export function readiness(figures) {
  const word = `${figures.ready} of ${figures.endpoints}`;
  if (figures.endpoints === 0) return ["bad", "none"];
  if (figures.ready === 0) return ["bad", word];
  if (figures.panic) return ["bad", word, "so few that all are used"];
  return [figures.ready < figures.endpoints ? "warn" : "good", word];
}

/** Columns of service ports. @param {Past} past @returns {Column[]} */
export function serviceColumns(past) {
  const key = (/** @type {any} */ row) => `${row.namespace}/${row.name}:${row.port}/${row.protocol}`;
  return [
    { head: "Service", sort: "name", cell: link((row) => `${row.namespace}/${row.name}`, (row) => serviceHref(row.namespace, row.name, row.port, row.protocol), (row) => `${row.port}/${row.protocol}${row.portName ? ` ${row.portName}` : ""} · ${row.balancer}`) },
    { head: "Endpoints", cell: mark((row) => readiness(row.figures)) },
    { head: "Rate /s", num: true, sort: "rate", cell: rateCurve(past, key, (row) => row.figures.rate) },
    { head: "Errors /s", num: true, sort: "errors", cell: errors },
    { head: "p50", num: true, cell: text((row) => format.time(row.figures.p50)) },
    { head: "p99", num: true, sort: "time", cell: text((row) => format.time(row.figures.p99)) },
    { head: "In flight", num: true, sort: "inFlight", cell: text((row) => format.count(row.figures.inFlight)) },
  ];
}

/** @param {any} cell @param {any} row */
function errors(cell, row) {
  const all = row.figures.errors + row.figures.connectFailures;
  say(cell, format.rate(all));
  cell.classList.toggle("hot", all > Math.max(0.005, row.figures.rate * 0.01));
}

const pageOf = (/** @type {any} */ shown) => `${format.count(shown.found === 0 ? 0 : shown.offset + 1)}–${format.count(shown.offset + shown.rows.length)} of ${format.count(shown.found)}`;

/**
 * A view that is one list: a search, a table, and pages.
 * @param {any} context
 * @param {{ view: string, title: string, what: string, columns: Column[], key: (row: any) => string, sort?: string, only?: string, empty: string, tone?: (row: any) => string }} of
 */
function listView(context, of) {
  const asked = { view: of.view, q: context.query.get("q") ?? "", sort: context.query.get("sort") ?? of.sort ?? "name", only: context.query.get("only") ?? "", offset: Number(context.query.get("offset")) || 0 };
  const changed = (/** @type {any} */ what) => {
    Object.assign(asked, { offset: 0 }, what);
    context.again({ ...asked }, { q: asked.q, sort: asked.sort === (of.sort ?? "name") ? "" : asked.sort, only: asked.only, offset: asked.offset || "" });
  };
  let typing = 0;
  const search = el("input", { type: "search", id: "search", value: asked.q, placeholder: `Search ${of.what}`, autocomplete: "off", spellcheck: "false", maxlength: "100", "aria-label": `Search ${of.what}` });
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = window.setTimeout(() => changed({ q: search.value.trim() }), 250);
  });
  const only = of.only ? el("input", { type: "checkbox", checked: asked.only !== "" }) : null;
  only?.addEventListener("change", () => changed({ only: only.checked ? "troubled" : "" }));
  const found = el("span", { class: "found", role: "status" });
  const back = el("button", { type: "button", class: "button small", text: "Previous", onclick: () => changed({ offset: Math.max(0, asked.offset - 50) }) });
  const on = el("button", { type: "button", class: "button small", text: "Next", onclick: () => changed({ offset: asked.offset + 50 }) });
  const rows = table({ caption: of.title, columns: of.columns, key: of.key, tone: of.tone, sorted: (sort) => changed({ sort }) });
  const empty = el("p", { class: "empty", hidden: true });
  const bar = el("div", { class: "bar" }, search, only && el("label", { class: "check" }, only, ` ${of.only}`), found, el("div", { class: "pages" }, back, on));
  return {
    title: of.title,
    query: { ...asked },
    element: el("section", {}, el("h1", { text: of.title }), bar, el("div", { class: "sheet" }, rows, empty)),
    /** @param {any} event */
    update(event) {
      const shown = event.view;
      asked.offset = shown.offset;
      rows.draw(shown.rows, asked.sort);
      say(found, shown.found === shown.all ? pageOf(shown) : `${pageOf(shown)} found, ${format.count(shown.all)} in all`);
      show(back.parentElement, shown.found > shown.most);
      back.disabled = shown.offset === 0;
      on.disabled = shown.offset + shown.rows.length >= shown.found;
      show(rows, shown.rows.length > 0);
      show(empty, shown.rows.length === 0);
      say(empty, shown.all === 0 ? of.empty : `None of ${format.plural(shown.all, "entry", "entries")} is like that. Search for less${asked.only ? ", or show all" : ""}.`);
    },
  };
}

/** @param {any} context */
export function services(context) {
  const past = new Past(60);
  return listView(context, {
    view: "services", title: "Services", what: "namespace, name, port or balancer", only: "only those to look at",
    columns: serviceColumns(past), key: (row) => `${row.namespace}/${row.name}:${row.port}/${row.protocol}`,
    empty: "No Service is configured. Apply one, or give `sluicegate run` the folder that has them.",
  });
}

/** @param {any} context */
export function routes(context) {
  const past = new Past(60);
  const key = (/** @type {any} */ row) => `${row.router} ${row.listeners.map((/** @type {any} */ at) => `${at.address} ${at.hostname}`).join()} ${row.name}`;
  return listView(context, {
    view: "routes", title: "Routes", what: "rule, host, path or Service", only: "only broken ones", key,
    columns: [
      { head: "Rule", sort: "name", cell: (cell, row) => {
        cell.name ??= cell.appendChild(el("span", {}));
        cell.below ??= cell.appendChild(el("span", { class: "below" }));
        say(cell.name, row.name);
        say(cell.below, `${[...new Set(row.listeners.map((/** @type {any} */ at) => at.name))].join(", ")}${row.moreListeners ? ` and ${row.moreListeners} more` : ""} · ${row.router}`);
      } },
      { head: "Matches", wide: true, cell: lines((row) => [...(row.hostnames.length ? [row.hostnames.join(", ")] : []), ...row.matches]) },
      { head: "Leads to", wide: true, cell: backends },
      { head: "Rate /s", num: true, sort: "rate", cell: rateCurve(past, key, (row) => row.rate) },
    ],
    tone: (row) => (row.backends.some((/** @type {any} */ backend) => backend.error) ? "troubled" : ""),
    empty: "No router has a rule: listeners lead straight to their Services.",
  });
}

/** @param {any} cell @param {any} row */
function backends(cell, row) {
  cell.list ??= cell.appendChild(el("ul", { class: "lines" }));
  const all = row.does ? [{ does: row.does }, ...row.backends] : row.backends;
  if (all.length === 0) all.push({ does: "nowhere: the rule has no backend" });
  const weights = row.backends.reduce((/** @type {number} */ sum, /** @type {any} */ backend) => sum + backend.weight, 0);
  keyed(cell.list, all, (backend) => backend.service ?? backend.does, (backend) => (backend.does ? el("li", { text: backend.does }) : el("li", {}, el("a", {}), el("span", { class: "aside" }))), (child, backend) => {
    if (backend.does) return;
    attribute(child.firstChild, "href", hrefOf(backend.service, row.transport === "udp"));
    say(child.firstChild, backend.service);
    say(child.lastChild, backend.error ? ` ${backend.error}` : row.backends.length > 1 ? ` ${format.share(weights ? backend.weight / weights : 0)} · ${format.rate(backend.rate)} /s` : "");
    attribute(child, "class", backend.error ? "hot" : null);
  });
}

/** @param {any} context */
export function listeners(context) {
  return listView(context, {
    view: "listeners", title: "Listeners", what: "name, address or host", key: (row) => `${row.protocol} ${row.address} ${row.name}`,
    columns: [
      { head: "Listener", cell: mark((row) => [row.bound ? "good" : "bad", row.name, row.bound ? "" : "not listened on: see Faults"]) },
      { head: "Address", cell: (cell, row) => { cell.classList.add("mono"); say(cell, row.address); } },
      { head: "Protocol", cell: text((row) => row.protocol) },
      { head: "Hosts", wide: true, cell: lines((row) => [...row.hosts.map(host), ...(row.moreHosts ? [`and ${row.moreHosts} more`] : [])]) },
      { head: "Leads to", cell: (cell, row) => {
        cell.link ??= cell.appendChild(el("a", {}));
        attribute(cell.link, "href", row.service ? hrefOf(row.service, row.protocol === "UDP") : row.rules ? `#/routes?q=${encodeURIComponent(row.hosts[0]?.hostname ?? "")}` : null);
        say(cell.link, row.service ?? (row.rules ? format.plural(row.rules, "rule") : "nothing"));
      } },
      { head: "By its rules /s", num: true, cell: text((row) => (row.rules ? format.rate(row.rate) : "–")) },
    ],
    empty: "Nothing is listened on. A Service with a port, or a Gateway, makes a listener.",
  });
}

/** @param {any} host */
function host(host) {
  const ends = host.certificates.map((/** @type {any} */ certificate) => certificate.notAfter);
  const left = ends.length ? (Math.min(...ends) - Date.now() / 1000) : null;
  const ending = left === null ? "" : left < 0 ? ", its certificate has run out" : left < 14 * 86_400 ? `, certificate for ${format.span(left)} more` : "";
  const missing = ["HTTPS", "Terminate"].includes(host.tls) && ends.length === 0 ? ", without a certificate" : "";
  return `${host.hostname ?? "any host"}${host.tls ? ` (${host.tls}${host.clientCertificates ? `, client certificates: ${host.clientCertificates}` : ""}${missing}${ending})` : ""}`;
}

/** @param {any} context */
export function gateways(context) {
  return listView(context, {
    view: "gateways", title: "Gateways", what: "namespace or name", key: (row) => `${row.namespace}/${row.name}`,
    columns: [
      { head: "Gateway", cell: mark((row) => [bad(row.conditions) ? "bad" : "good", `${row.namespace}/${row.name}`, bad(row.conditions)]) },
      { head: "Addresses", cell: lines((row) => (row.addresses ?? []).map((/** @type {any} */ address) => String(address.value))) },
      { head: "Listeners", wide: true, cell: lines((row) => row.listeners.map((/** @type {any} */ one) => `${one.name}: ${format.plural(one.attachedRoutes ?? 0, "route")}${bad(one.conditions) ? ` – ${bad(one.conditions)}` : ""}`)) },
    ],
    empty: "No Gateway of this gateway's class is configured. Services are served at their own addresses without one.",
  });
}

/** What is wrong by the conditions of an object. @param {any[]} conditions */
function bad(conditions) {
  const wrong = conditions.filter((one) => (one.type === "Conflicted" ? one.status === "True" : one.status === "False"));
  return wrong.map((one) => `${one.type}: ${one.reason}${one.message ? `: ${one.message}` : ""}`).join("; ");
}

export const STATES = { active: "good", degraded: "warn", failed: "bad", disabled: "warn" };

/** @param {any} context */
export function plugins(context) {
  const past = new Past(60);
  return listView(context, {
    view: "plugins", title: "Plugins", what: "name, kind or source", key: (row) => row.name,
    columns: [
      { head: "Plugin", cell: link((row) => row.name, (row) => `#/plugin/${encodeURIComponent(row.name)}`, (row) => `${row.kind} · ${row.source}`) },
      { head: "State", wide: true, cell: mark((row) => [/** @type {any} */ (STATES)[row.state], row.rollout ? `${row.state}, ${row.rollout.phase}` : row.state, row.reason]) },
      { head: "Generation", cell: text((row) => (row.generation ? `${row.generation.number}${row.generation.version ? ` (${row.generation.version})` : ""}` : "none")) },
      { head: "Calls /s", num: true, cell: rateCurve(past, (row) => row.name, (row) => row.figures.rate) },
      { head: "Failures /s", num: true, cell: (cell, row) => { say(cell, format.rate(row.figures.failures)); cell.classList.toggle("hot", row.figures.failures > 0); } },
      { head: "A call", num: true, cell: text((row) => format.nanos(row.figures.nanos)) },
      { head: "Memory", num: true, cell: text((row) => (row.generation ? format.bytes(row.generation.memoryBytes) : "–")) },
    ],
    empty: "No plugin is in use.",
  });
}

/** @param {any} context */
export function faults(context) {
  return listView(context, {
    view: "faults", title: "Faults", what: "object, message or file", key: (row) => JSON.stringify([row.message, row.object, row.place]),
    columns: [
      { head: "Fault", wide: true, cell: mark((row) => [row.severity === "error" ? "bad" : "warn", row.severity, ""]) },
      { head: "What is wrong", wide: true, cell: (cell, row) => {
        cell.message ??= cell.appendChild(el("span", {}));
        cell.below ??= cell.appendChild(el("span", { class: "below" }));
        say(cell.message, row.object && !row.message.includes(row.object) ? `${row.object}: ${row.message}` : row.message);
        say(cell.below, row.expected ? `What to do: ${row.expected}` : "");
      } },
      { head: "Where", wide: true, cell: place },
    ],
    empty: "Nothing is wrong with the configuration.",
  });
}

/** @param {any} cell @param {any} row */
function place(cell, row) {
  cell.at ??= cell.appendChild(el("span", { class: "mono" }));
  cell.line ??= cell.appendChild(el("code", { class: "source" }));
  say(cell.at, row.place ? `${row.place.file}:${row.place.line}:${row.place.column}` : "not in a file");
  say(cell.line, row.place?.text.trim() ?? "");
  show(cell.line, Boolean(row.place?.text.trim()));
}
