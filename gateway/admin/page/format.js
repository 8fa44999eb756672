// @ts-check
// Figures as people read them.

/** @param {number} value @param {number} digits */
const fixed = (value, digits) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A count. @param {number | null | undefined} value */
export function count(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e9) return `${fixed(value / 1e9, 2)} G`;
  if (value >= 1e6) return `${fixed(value / 1e6, 2)} M`;
  if (value >= 1e5) return `${fixed(value / 1e3, 0)} k`;
  return fixed(value, 0);
}

/** A rate, a second. @param {number | null | undefined} value */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value < 0.1) return "< 0.1";
  if (value < 10) return fixed(value, 1);
  return count(Math.round(value));
}

/** A time in milliseconds. @param {number | null | undefined} value */
export function time(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${fixed(value, 2)} ms`;
  if (value < 10) return `${fixed(value, 1)} ms`;
  if (value < 10_000) return `${fixed(value, 0)} ms`;
  return `${fixed(value / 1000, 1)} s`;
}

/** A time in nanoseconds. @param {number | null | undefined} value */
export function nanos(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1000) return `${fixed(value, 0)} ns`;
  return value < 1e6 ? `${fixed(value / 1000, 1)} µs` : time(value / 1e6);
}

/** A number of bytes. @param {number | null | undefined} value */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${fixed(value, unit === 0 || value >= 100 ? 0 : 1)} ${units[unit]}`;
}

/** A share, from 0 to 1. @param {number | null | undefined} value */
export function share(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const percent = value * 100;
  return `${fixed(percent, percent > 0 && percent < 10 ? 1 : 0)} %`;
}

/** A length of time in seconds. @param {number} seconds */
export function span(seconds) {
  if (seconds < 120) return `${fixed(seconds, 0)} s`;
  if (seconds < 7200) return `${fixed(seconds / 60, 0)} min`;
  if (seconds < 172_800) return `${fixed(seconds / 3600, 0)} h`;
  return `${fixed(seconds / 86_400, 0)} days`;
}

/** A count with its noun. @param {number} number @param {string} one @param {string} [many] */
export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
