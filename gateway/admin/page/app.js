// @ts-check
// The frame: which view is shown, its stream of events, the state of the gateway, and the login.

import { announce, confirm } from "./actions.js";
import { follow, Refused, token, whoami } from "./api.js";
import { attribute, el, keyed, say } from "./dom.js";
import { explain } from "./explain.js";
import * as format from "./format.js";
import { faults, gateways, listeners, plugins, routes, services } from "./lists.js";
import { overview } from "./overview.js";
import { plugin } from "./plugin.js";
import { service } from "./service.js";

const VIEWS = { "": overview, gateways, listeners, routes, services, service, plugins, plugin, faults, explain };
/** Of the bar: the view, its name, and what is counted of it. @type {[string, string, ((event: any) => [any, string])?][]} */
const NAV = [
  ["", "Overview"],
  ["gateways", "Gateways"],
  ["listeners", "Listeners", (event) => [event.counts.listeners, ""]],
  ["routes", "Routes", (event) => [event.counts.routes, ""]],
  ["services", "Services", (event) => [event.totals.servicePorts, event.totals.withoutEndpoint ? "warn" : ""]],
  ["plugins", "Plugins", (event) => [event.counts.plugins, event.counts.troubledPlugins ? "warn" : ""]],
  ["faults", "Faults", (event) => [event.counts.errors + event.counts.warnings, event.counts.errors ? "bad" : event.counts.warnings ? "warn" : ""]],
  ["explain", "Explain"],
];
/** States of the gateway: a colour, and what it is called. @type {Record<string, [string, string]>} */
const STATES = {
  serving: ["good", "Serving"], looking: ["warn", "Looking for endpoints"], starting: ["warn", "Starting"], overloaded: ["bad", "Overloaded: new work is refused"],
  drained: ["warn", "Drained: nothing new is sent here"], stopping: ["warn", "Stopping"], lost: ["bad", "No connection to the gateway"], asking: ["", "Asking the gateway…"],
};

const by = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const main = by("main");
let me = { role: "operator", name: "" };
/** @type {() => void} */
let stop = () => {};
let state = "asking";

const mark = el("span", {});
const aside = el("span", { class: "below" });
by("state").append(mark, aside);

/** @param {string} name @param {string} [more] */
function showState(name, more = "") {
  state = name;
  attribute(mark, "class", `mark ${STATES[name]?.[0] ?? "warn"}`);
  say(mark, STATES[name]?.[1] ?? name);
  say(aside, more);
  attribute(document.body, "data-state", name);
  say(drain, name === "drained" ? "Resume…" : "Drain…");
}

const drain = el("button", { type: "button", class: "button small", text: "Drain…", onclick: () => {
  if (drain.getAttribute("aria-disabled") === "true") return;
  if (state === "drained") confirm({ title: "Resume?", text: "/readyz and health check node ports answer as before, so load balancers in front send new work here again.", verb: "Resume", path: "resume" });
  else confirm({ title: "Drain this gateway?", text: "/readyz and health check node ports answer 503, so load balancers in front send nothing new here. What comes all the same is served, and nothing is cut off. It lasts until Resume, or until the process ends.", verb: "Drain", danger: true, path: "drain" });
} });
const leave = el("button", { type: "button", class: "button small", text: "Sign out", onclick: () => { token.set(""); start(); } });
const role = el("span", { class: "below" });
by("tools").append(role, drain, leave);

keyed(by("nav"), NAV, ([view]) => view || "overview", ([view, name]) => el("li", {}, el("a", { href: `#/${view}` }, el("span", { text: name }), el("span", { class: "badge" }))), () => {});

/** @param {any} event */
function frame(event) {
  const more = event.reasons.length + event.moreReasons;
  showState(event.state, event.state === "serving" && more ? `${format.plural(more, "thing is", "things are")} not as configured` : event.state === "looking" ? event.reasons[0] : "");
  NAV.forEach(([, name, counted], i) => {
    if (!counted) return;
    const badge = by("nav").children[i].firstChild.lastChild;
    const [number, tone] = counted(event);
    say(badge, number ? format.count(number) : "");
    attribute(badge, "class", `badge ${tone}`);
  });
}

/** Shows what the address names. @param {boolean} [moved] whether somebody went there: then the focus goes with him */
function go(moved = true) {
  stop();
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(unwritten);
  const make = Object.hasOwn(VIEWS, name) ? /** @type {any} */ (VIEWS)[name] : null;
  NAV.forEach(([view], i) => attribute(by("nav").children[i].firstChild, "aria-current", view === name || (name && view === `${name}s`) ? "page" : null));
  by("nav").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  if (!make) {
    main.replaceChildren(el("h1", { text: "There is no such view" }), el("p", {}, el("a", { href: "#/", text: "Go to the overview" })));
    return;
  }
  const remember = (/** @type {Record<string, any>} */ kept) => {
    const given = Object.entries(kept).filter(([, value]) => value);
    history.replaceState(null, "", `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`);
  };
  const view = make({
    path: rest,
    query: new URLSearchParams(query ?? ""),
    get role() { return me.role; },
    remember,
    /** Asks for something else in the same view. @param {any} asked @param {any} [kept] */
    again(asked, kept) {
      if (kept) remember(kept);
      listen(view, asked);
    },
  });
  document.title = `${view.title} · Sluicegate`;
  main.replaceChildren(view.element);
  main.scrollTop = 0;
  if (moved) main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
  listen(view, view.query);
}

/** @param {any} view @param {any} query */
function listen(view, query) {
  stop();
  main.setAttribute("aria-busy", "true");
  stop = follow(query, {
    event(event) {
      main.removeAttribute("aria-busy");
      frame(event);
      view.update(event);
    },
    lost(error, seconds) {
      if (error instanceof Refused && error.status === 401) {
        stop();
        signIn(token.get() ? "The token is not taken any more." : "");
        return;
      }
      showState("lost", `${error instanceof Refused ? error.message : "it may be stopping, or another process has its place"}; next try in ${format.span(seconds)}`);
    },
  });
}

/** @param {string} path */
function unwritten(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/** @param {string} why */
function signIn(why) {
  stop();
  showState("asking", "");
  const failure = el("p", { class: "failure", role: "alert", text: why });
  const input = el("input", { id: "token", type: "password", autocomplete: "current-password", required: true, spellcheck: "false" });
  const form = el(
    "form", { class: "sheet pad sign-in" }, el("h1", { text: "Sign in" }),
    el("p", { text: "This gateway asks for a token, of the file that its operator keeps. It stays in this tab, and is gone when the tab is closed." }),
    el("div", { class: "field long" }, el("label", { for: "token", text: "Token" }), input), failure, el("div", { class: "buttons left" }, el("button", { type: "submit", class: "button primary", text: "Sign in" })),
  );
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    token.set(input.value.trim());
    start();
  });
  main.replaceChildren(form);
  input.focus();
}

async function start() {
  try {
    me = await whoami();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) {
      const wrong = token.get() !== "";
      token.set("");
      signIn(wrong ? "That token is not known here." : "");
      return;
    }
    if (!(error instanceof Refused)) showState("lost", "");
    me = { role: "viewer", name: "" };
  }
  const viewer = me.role !== "operator";
  say(role, [me.name, viewer ? "viewer" : ""].filter(Boolean).join(", "));
  attribute(drain, "aria-disabled", viewer ? "true" : null);
  attribute(drain, "title", viewer ? "Your login may look, and not give orders." : null);
  leave.hidden = token.get() === "";
  go(false);
}

window.addEventListener("hashchange", () => go());
window.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement;
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const search = by("search");
  if (search) {
    event.preventDefault();
    search.focus();
  }
});
window.addEventListener("unhandledrejection", (event) => announce(`Something went wrong in the page: ${event.reason}`));
showState("asking");
start();
