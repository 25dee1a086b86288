// Numbers and times for people: two or three digits, units, and "—" for what is not known.

export const NONE = "—";

const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

/** 6.3 MB. */
export function bytes(count) {
  if (!known(count)) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let value = Number(count);
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toPrecision(value >= 10 ? 3 : 2)} ${units[unit]}`;
}

/** 4.2 MB/s. */
export const rate = (perSecond) => (known(perSecond) ? `${bytes(perSecond)}/s` : NONE);

/** 8.50 %. */
export function share(ratio, digits = 2) {
  return known(ratio) ? `${(ratio * 100).toFixed(digits)} %` : NONE;
}

/** 3 s, 4 min 10 s, 2 h 5 min, 3 d. */
export function duration(seconds) {
  if (!known(seconds)) return NONE;
  const value = Math.max(0, Number(seconds));
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return joined(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86400) return joined(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return joined(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
}

const joined = (a, unit, b, smaller) => (b ? `${a} ${unit} ${b} ${smaller}` : `${a} ${unit}`);

/** 12 s ago; times in the future are said so. */
export function ago(moment, now = Date.now()) {
  if (!moment) return NONE;
  const seconds = (now - Date.parse(moment)) / 1000;
  if (Number.isNaN(seconds)) return NONE;
  if (seconds < -2) return `in ${coarse(-seconds)}`;
  return seconds < 2 ? "now" : `${coarse(seconds)} ago`;
}

/** One unit is enough for how long ago it was. */
export function coarse(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

const two = (value) => String(value).padStart(2, "0");

/** 14:03:07, with the day when it is not today. */
export function clock(moment, { seconds = true } = {}) {
  if (!moment) return NONE;
  const at = new Date(moment);
  if (Number.isNaN(at.getTime())) return NONE;
  if (at.toDateString() === new Date().toDateString()) return ofDay(at, seconds);
  return `${at.getFullYear()}-${dayOf(at)} ${ofDay(at, seconds)}`;
}

const ofDay = (at, seconds) => `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? `:${two(at.getSeconds())}` : ""}`;
const dayOf = (at) => `${two(at.getMonth() + 1)}-${two(at.getDate())}`;

/** Times along an axis, in milliseconds: each says its day only where it is not that of the one before it, or today. */
export function along(moments, { seconds = false } = {}) {
  return moments.map((moment, number) => {
    const at = new Date(moment);
    const before = number ? new Date(moments[number - 1]) : new Date();
    return at.toDateString() === before.toDateString() ? ofDay(at, seconds) : `${dayOf(at)} ${ofDay(at, seconds)}`;
  });
}

/** A number with no more digits than say something. */
export function number(value) {
  if (!known(value)) return NONE;
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en-US").replaceAll(",", " ");
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

export const milliseconds = (value) => (known(value) ? `${value >= 100 ? Math.round(value) : Number(value).toPrecision(3)} ms` : NONE);

export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** node-1, node-2 and 3 more. */
export function several(names, most = 3) {
  const shown = names.slice(0, most).join(", ");
  return names.length > most ? `${shown} and ${names.length - most} more` : shown;
}
