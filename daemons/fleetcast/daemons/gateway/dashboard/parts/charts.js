// Small charts as SVG: lines over time or steps, with limits and marks, and their numbers under the pointer.

import { h, lazy } from "./dom.js";
import { along, clock } from "./format.js";

/** Of the drawing; the text in it is as large as elsewhere. */
const WIDE = 640;
const NARROW = 350;
const widthNow = () => (innerWidth < 720 ? NARROW : WIDE);
const PAD = { left: 52, right: 12, top: 10, bottom: 22 };
const COLOURS = 6;

const finite = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** Round numbers between two values, about `count` of them. */
export function ticks(low, high, count = 4) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / count;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * size).find((each) => each >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

/**
 * Lines. `series`: [{name, points: [[x, y]]}], `limit`: {value, name}, `marks`: [{x, name, kind}].
 * `time`: x is milliseconds; `show`: how a value is written; `log`: whether the y axis is logarithmic.
 */
export function lines({ title, series, limit, marks = [], time = true, show = String, height = 180, low = 0, log = false, label = "" }) {
  const drawn = series.map((each) => ({ ...each, points: each.points.filter(([, y]) => finite(y) && (!log || y > 0)) }));
  const points = drawn.flatMap((each) => each.points);
  const heading = h("figcaption", {}, h("strong", {}, title), legend(drawn, limit));
  if (!points.length) return h("figure", { class: "chart" }, heading, h("p", { class: "nothing nodata" }, "No data: nobody reported."));
  const width = widthNow();
  const scale = scales(points, limit, marks, { height, low, log, width });
  const body = [
    ...grid(scale, { time, show }),
    limit && finite(limit.value) ? h("g", { class: "limit" }, h("line", { x1: PAD.left, x2: width - PAD.right, y1: scale.y(limit.value), y2: scale.y(limit.value) })) : null,
    ...marks.map((mark) => h("g", { class: `mark ${mark.kind ?? ""}` }, h("title", {}, mark.name), h("line", { x1: scale.x(mark.x), x2: scale.x(mark.x), y1: PAD.top, y2: height - PAD.bottom }), h("path", { d: `M${scale.x(mark.x) - 4} ${PAD.top}h8l-4 6z` }))),
    ...drawn.map((each, number) => line(each, number, scale)),
    h("line", { class: "cursor", y1: PAD.top, y2: height - PAD.bottom }),
  ];
  const last = drawn.map((each) => each.points.at(-1)).map((point, number) => (point ? `${drawn[number].name} ${show(point[1])}` : "")).filter(Boolean).join(", ");
  return h("figure", { class: "chart" }, heading,
    h("div", { class: "plot", onpointermove: (event) => hover(event, drawn, scale, { time, show }), onpointerleave: leave },
      h("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. Last: ${last}.${marks.length ? ` ${marks.length} marks: ${marks.map((mark) => mark.name).slice(0, 3).join("; ")}.` : ""}`, preserveAspectRatio: "none" }, body),
      lazy("tip", "tip", () => h("output", { class: "tip", hidden: true }))),
    label ? h("p", { class: "note" }, label) : null);
}

function legend(series, limit) {
  return h("span", { class: "legend" },
    series.filter((each) => each.name).map((each, number) => h("span", {}, h("i", { class: `c${(each.colour ?? number) % COLOURS}`, "aria-hidden": "true" }), each.name)),
    limit && finite(limit.value) ? h("span", {}, h("i", { class: "limit", "aria-hidden": "true" }), limit.name) : null);
}

function scales(points, limit, marks, { height, low, log, width }) {
  const xs = [...points.map(([x]) => x), ...marks.map((mark) => mark.x)];
  const ys = points.map(([, y]) => y);
  let [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  if (x0 === x1) [x0, x1] = [x0 - 1, x1 + 1];
  const to = log ? Math.log10 : (y) => y;
  let y0 = log ? to(Math.min(...ys)) : Math.min(low ?? Math.min(...ys), ...ys);
  let y1 = Math.max(...ys.map(to), limit && finite(limit.value) ? to(limit.value) * (log ? 1 : 1.15) : -Infinity);
  if (y0 === y1) y1 = y0 + (Math.abs(y0) || 1);
  if (!log) y1 += (y1 - y0) * 0.05;
  const x = (value) => PAD.left + ((value - x0) / (x1 - x0)) * (width - PAD.left - PAD.right);
  const y = (value) => height - PAD.bottom - ((to(value) - y0) / (y1 - y0)) * (height - PAD.top - PAD.bottom);
  return { x, y, x0, x1, y0, y1, height, width, log, at: (px) => x0 + ((px - PAD.left) / (width - PAD.left - PAD.right)) * (x1 - x0) };
}

function grid(scale, { time, show }) {
  const { height, width } = scale;
  const values = scale.log ? ticks(scale.y0, scale.y1, 3).map((each) => 10 ** each) : ticks(scale.y0, scale.y1);
  const across = values.map((value) => h("g", { class: "grid" },
    h("line", { x1: PAD.left, x2: width - PAD.right, y1: scale.y(value), y2: scale.y(value) }),
    h("text", { x: PAD.left - 6, y: scale.y(value) + 4, "text-anchor": "end" }, show(value))));
  const count = width > 500 ? 4 : 2;
  const places = Array.from({ length: count + 1 }, (_, each) => scale.x0 + ((scale.x1 - scale.x0) * each) / count);
  const words = time ? along(places, { seconds: scale.x1 - scale.x0 < 600000 }) : places.map((value) => String(Math.round(value)));
  const said = places.map((value, each) => h("text", { class: "axis", x: scale.x(value), y: height - 6, "text-anchor": each === 0 ? "start" : each === count ? "end" : "middle" }, words[each]));
  return [...across, ...said];
}

function line(series, number, scale) {
  const colour = `c${(series.colour ?? number) % COLOURS}`;
  if (series.points.length === 1) {
    const [[x, y]] = series.points;
    return h("circle", { class: `line ${colour} alone`, cx: scale.x(x), cy: scale.y(y), r: 3 });
  }
  let before = null;
  const gap = series.gap ?? Infinity;
  const path = series.points.map(([x, y]) => {
    const move = before === null || x - before > gap;
    before = x;
    return `${move ? "M" : "L"}${scale.x(x).toFixed(1)} ${scale.y(y).toFixed(1)}`;
  });
  return h("path", { class: `line ${colour}`, d: path.join("") });
}

function hover(event, series, scale, { time, show }) {
  const plot = event.currentTarget;
  const box = plot.querySelector("svg").getBoundingClientRect();
  const at = scale.at(((event.clientX - box.left) / box.width) * scale.width);
  const near = series.map((each) => [each, each.points.reduce((best, point) => (!best || Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best), null)]).filter(([, point]) => point);
  if (!near.length) return;
  const x = near.reduce((best, [, point]) => (Math.abs(point[0] - at) < Math.abs(best - at) ? point[0] : best), near[0][1][0]);
  const cursor = plot.querySelector(".cursor");
  cursor.setAttribute("x1", scale.x(x));
  cursor.setAttribute("x2", scale.x(x));
  const tip = plot.querySelector(".tip");
  tip.hidden = false;
  tip.textContent = `${time ? clock(x) : `step ${x}`}  ${near.filter(([, point]) => point[0] === x).map(([each, point]) => `${each.name} ${show(point[1])}`).join("  ")}`;
  tip.style.setProperty("left", `${Math.min(Math.max(0, ((scale.x(x) / scale.width) * box.width) - tip.offsetWidth / 2), box.width - tip.offsetWidth)}px`);
}

function leave(event) {
  event.currentTarget.querySelector(".tip").hidden = true;
}
