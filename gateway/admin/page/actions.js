// @ts-check
// Orders: each is confirmed first, says what it will do, and what came of it.

import { order } from "./api.js";
import { el, say } from "./dom.js";

/** What can be ordered of a plugin, and what that does. @type {Record<string, { verb: string, danger?: boolean, what: (plugin: any) => string }>} */
export const ORDERS = {
  promote: {
    verb: "Promote",
    what: (plugin) => `Generation ${plugin.rollout?.generation ?? "on trial"} serves all traffic from now on; the trial ends.`,
  },
  rollback: {
    verb: "Roll back",
    danger: true,
    what: (plugin) =>
      plugin.rollout
        ? `The trial of generation ${plugin.rollout.generation} ends; the live generation goes on.`
        : `Generation ${plugin.kept[0]} serves in the place of ${plugin.generation?.number ?? "the live one"}, until the plugin's file changes or it is reloaded.`,
  },
  reload: { verb: "Reload", what: () => "The plugin is loaded anew from its source, even if nothing has changed. This ends a rollback, and what Disable has done." },
  disable: {
    verb: "Disable",
    danger: true,
    what: (plugin) =>
      /** @type {Record<string, string>} */ ({
        balancer: "Endpoints are chosen at random until it is reloaded. No request fails for that.",
        router: "What this router decides is answered 503 until it is reloaded.",
        discovery: "The endpoints that it found last serve until it is reloaded. No change of endpoints is seen.",
      })[plugin.kind] ?? "It is not asked any more until it is reloaded.",
  },
};

/** Whether an order can be given. @param {string} name @param {any} plugin */
export function possible(name, plugin) {
  if (name === "promote") return Boolean(plugin.rollout);
  if (name === "rollback") return Boolean(plugin.rollout) || (plugin.kept.length > 0 && plugin.state !== "disabled");
  if (name === "disable") return plugin.state !== "disabled";
  return true;
}

/** Why it cannot. @param {string} name @param {boolean} viewer */
export function reason(name, viewer) {
  if (viewer) return "Your login may look, and not give orders.";
  return { promote: "No generation is on trial.", rollback: "No earlier generation is kept.", disable: "It is disabled already." }[name] ?? "";
}

/**
 * Asks whether an order is meant, and gives it.
 * @param {{ title: string, text: string, verb: string, danger?: boolean, path: string }} asked
 */
export function confirm({ title, text, verb, danger, path }) {
  const failure = el("p", { class: "failure", role: "alert" });
  const cancel = el("button", { type: "button", class: "button", text: "Cancel" });
  const go = el("button", { type: "button", class: danger ? "button danger" : "button primary", text: verb });
  const heading = el("h2", { id: "asked", text: title });
  const dialog = el("dialog", { class: "ask", "aria-labelledby": "asked" }, heading, el("p", { text }), failure, el("div", { class: "buttons" }, cancel, go));
  cancel.addEventListener("click", () => dialog.close());
  go.addEventListener("click", async () => {
    go.disabled = true;
    say(failure, "");
    try {
      announce(await order(path));
      dialog.close();
    } catch (error) {
      say(failure, `Nothing was done: ${/** @type {Error} */ (error).message}`);
      go.disabled = false;
      go.focus();
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  // The focus comes back to the button that opened it when it closes. It begins where nothing happens by accident.
  dialog.showModal();
  cancel.focus();
}

let hide = 0;

/** Says what was done. @param {string} text */
export function announce(text) {
  const said = /** @type {HTMLElement} */ (document.getElementById("said"));
  say(said, text.trim());
  said.classList.add("shown");
  clearTimeout(hide);
  hide = window.setTimeout(() => {
    said.classList.remove("shown");
    say(said, "");
  }, 8000);
}
