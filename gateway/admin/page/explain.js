// @ts-check
// A form for a request, and what would become of it by what is served now.

import { get } from "./api.js";
import { el, say, show } from "./dom.js";

/** @param {any} context */
export function explain(context) {
  const given = (/** @type {string} */ name, /** @type {string} */ other) => context.query.get(name) ?? other;
  const methods = el("datalist", { id: "methods" }, ...["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].map((value) => el("option", { value })));
  const method = el("input", { id: "method", list: "methods", value: given("method", "GET"), required: true, size: "8", autocomplete: "off", spellcheck: "false" });
  const url = el("input", { id: "url", value: given("url", ""), required: true, placeholder: "http://shop.example/api/x", autocomplete: "off", spellcheck: "false", inputmode: "url" });
  const port = el("input", { id: "port", type: "number", min: "1", max: "65535", value: given("port", ""), required: true });
  const client = el("input", { id: "client", value: given("client", ""), placeholder: "127.0.0.1", autocomplete: "off", spellcheck: "false" });
  const address = el("input", { id: "address", value: given("address", ""), placeholder: "any with this port", autocomplete: "off", spellcheck: "false" });
  const headers = el("textarea", { id: "headers", rows: "3", placeholder: "X-Version: 2", spellcheck: "false" });
  headers.value = given("headers", "");
  const udp = el("input", { id: "udp", type: "checkbox", checked: given("udp", "") !== "" });
  const go = el("button", { type: "submit", class: "button primary", text: "Explain" });
  const field = (/** @type {string} */ label, /** @type {any} */ input, /** @type {string} */ hint = "", /** @type {string} */ name = "") => el("div", { class: `field ${name}` }, el("label", { for: input.id, text: label }), input, hint && el("span", { class: "below", text: hint }));
  const failure = el("p", { class: "failure", role: "alert" });
  const story = el("div", { class: "sheet pad", hidden: true, tabindex: "-1", "aria-label": "Explanation", role: "region" });
  const form = el(
    "form", { class: "sheet pad form" }, methods,
    field("Method", method, "", "short"), field("URL or path", url, "", "long"), field("Port", port, "that it arrives at", "short"),
    field("Client's address", client), field("Local address", address, "of the listener"), field("Header fields", headers, "one a line", "long"),
    el("div", { class: "field" }, el("label", { class: "check" }, udp, " a UDP flow: only the client counts")),
    el("div", { class: "buttons left" }, go),
  );
  form.addEventListener("submit", async (/** @type {Event} */ event) => {
    event.preventDefault();
    go.disabled = true;
    say(failure, "");
    const asked = { method: method.value.trim(), url: url.value.trim(), port: port.value, client: client.value.trim(), address: address.value.trim(), headers: headers.value.trim(), udp: udp.checked ? "true" : "" };
    context.remember(asked);
    try {
      tell(story, await get("explain", asked));
      show(story, true);
      story.focus();
    } catch (error) {
      show(story, false);
      say(failure, `It was not explained: ${/** @type {Error} */ (error).message}`);
    } finally {
      go.disabled = false;
    }
  });
  return {
    title: "Explain",
    query: { view: "none" },
    element: el("section", {}, el("h1", { text: "Explain a request" }), el("p", { class: "intro", text: "Says what would become of a request by what is served now: the same plugins are asked, and nothing is sent. Their own counters count it." }), form, failure, story),
    update() {},
  };
}

/** @param {any} story @param {any} explanation */
function tell(story, explanation) {
  const lines = explanation.lines;
  const list = el("dl", { class: "story" });
  let topic = "";
  for (const line of lines) {
    const last = line.topic === "result";
    if (line.topic && line.topic !== topic) list.append(el("dt", { text: line.topic }));
    topic = line.topic || topic;
    list.append(el("dd", { text: line.text, class: last ? "good" : line.topic ? null : "further" }));
  }
  if (explanation.end) list.append(el("dt", { text: "result" }), ...explanation.end.split("\n").map((/** @type {string} */ text, /** @type {number} */ i) => el("dd", { text: text.trim(), class: i === 0 ? "bad" : "further" })));
  story.replaceChildren(el("h2", { text: explanation.end ? "It gets no further" : "What becomes of it" }), list);
}
