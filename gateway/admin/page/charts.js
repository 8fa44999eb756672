// @ts-check
// Small curves.

import { attribute, svg } from "./dom.js";

const WIDTH = 240;

/**
 * A curve of the last two minutes, for the eye alone: its newest value always stands beside it in figures.
 * @param {number} height
 */
export function curve(height) {
  const line = svg("path", { class: "curve-line" });
  const area = svg("path", { class: "curve-area" });
  const element = svg("svg", { class: "curve", viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  /** @param {(number | null)[]} values the newest last @param {number} room */
  element.draw = (values, room) => {
    const most = Math.max(...values.map((value) => value ?? 0), 1e-9);
    const step = WIDTH / Math.max(room - 1, 1);
    const first = WIDTH - (values.length - 1) * step;
    const points = values.map((value, i) => `${(first + i * step).toFixed(1)},${(height - 1 - ((value ?? 0) / most) * (height - 4)).toFixed(1)}`);
    attribute(line, "d", points.length > 1 ? `M${points.join("L")}` : "");
    attribute(area, "d", points.length > 1 ? `M${first.toFixed(1)},${height}L${points.join("L")}L${WIDTH},${height}Z` : "");
  };
  return element;
}

/** Keeps the last values of rows that are shown, for a curve in each. */
export class Past {
  /** @param {number} room */
  constructor(room) {
    this.room = room;
    /** @type {Map<string, number[]>} */
    this.values = new Map();
  }

  /** @param {string} key @param {number} value */
  note(key, value) {
    const values = this.values.get(key) ?? [];
    values.push(value);
    if (values.length > this.room) values.shift();
    this.values.delete(key);
    this.values.set(key, values);
    // Rows come and go as somebody searches; the ones not seen for longest are forgotten.
    if (this.values.size > 200) this.values.delete(/** @type {string} */ (this.values.keys().next().value));
    return values;
  }
}
