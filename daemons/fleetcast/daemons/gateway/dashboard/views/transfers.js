// Transfers as they happen: the swarm of each artifact, who feeds whom, how fast, how long still, and why not faster.

import { api } from "../parts/api.js";
import { h } from "../parts/dom.js";
import { bytes, coarse, duration, plural, rate } from "../parts/format.js";
import { bar, chip, cli, empty, modelLink, nodeLink, table, toggle, when } from "../parts/shared.js";

const EDGES = 240;
const ARROWS = 60;
const ENDED = new Set(["installed", "superseded", "failed", "stopped"]);

export function view(app) {
  return {
    title: "Transfers",
    sources: { found: { path: api(["transfers"], { all: true }), changes: true, on: (event) => /^(transfer|version|artifact|distribution)\./.test(event.event ?? ""), every: 5 } },
    draw: ({ found }) => draw(app, found),
  };
}

function draw(app, found) {
  const all = app.query.get("all") === "true";
  const only = app.query.get("artifact");
  const groups = new Map();
  for (const each of found.transfers) {
    if (!groups.has(each.artifact)) groups.set(each.artifact, []);
    groups.get(each.artifact).push(each);
  }
  const moving = (group) => group.some((each) => !ENDED.has(each.state));
  const newest = (group) => group.reduce((last, each) => (each.started_at > last ? each.started_at : last), "");
  let shown = [...groups.values()].filter((group) => (only ? group[0].artifact.startsWith(only) : all || moving(group)));
  const weight = (group) => group.reduce((sum, each) => sum + (ENDED.has(each.state) ? 0 : each.bytes_total), 0);
  shown.sort((a, b) => weight(b) - weight(a) || newest(b).localeCompare(newest(a)));
  const past = [...groups.values()].toSorted((a, b) => newest(b).localeCompare(newest(a)));
  const last = past.find((group) => new Set(group.map((each) => each.node)).size > 1) ?? past[0];
  const quiet = !shown.length;
  if (quiet && last && !only) shown = [last];
  const open = found.transfers.filter((each) => !ENDED.has(each.state));
  const speed = open.reduce((sum, each) => sum + each.rate_bytes_per_second, 0);
  return [
    h("section", { class: "part", key: "head" },
      h("div", { class: "title" }, h("h1", {}, "Transfers"), h("span", { class: "note" }, open.length ? `${plural(open.length, "transfer")} of ${plural(new Set(open.map((each) => each.artifact)).size, "artifact")}, ${rate(speed)} in all` : "nothing moves now"), h("span", { class: "spring" }),
        toggle(app, "all", "also what has ended", { again: false })),
      only ? h("p", {}, h("button", { onclick: () => app.setQuery({ artifact: "" }) }, "All artifacts")) : null,
      !groups.size ? empty("Nothing was transferred since the nodes began:  fleetcast promote MODEL VERSION FILE") : quiet && !only ? h("p", { class: "note" }, "Nothing moves now; this came last:") : null),
    shown.slice(0, 12).map((group) => artifact(app, group, found)),
    shown.length > 12 ? h("p", { class: "note" }, `and ${shown.length - 12} more artifacts`) : null,
    h("section", { class: "part", key: "cli" }, cli(`fleetcast transfers${all ? " --all" : ""}`)),
  ];
}

function artifact(app, every, found) {
  const group = newestByNode(every);
  const one = group[0];
  const summary = found.artifacts.find((each) => each.artifact === one.artifact);
  const open = group.filter((each) => !ENDED.has(each.state));
  const done = group.filter((each) => each.state === "installed").length;
  return h("section", { class: "part", key: one.artifact },
    h("div", { class: "title" }, h("h2", {}, modelLink(one.model, one.version)), h("span", { class: "note" }, `${bytes(one.bytes_total)}, ${done} of ${plural(group.length, "node")} done`),
      open.length && summary ? h("span", {}, `${rate(summary.rate_bytes_per_second)}${summary.left_seconds !== null ? `, ${coarse(summary.left_seconds)} left` : ""}`) : null,
      h("span", { class: "spring" }), only(app) ? null : h("a", { href: `/transfers?artifact=${one.artifact.slice(0, 16)}` }, "only this")),
    h("div", { class: "aside" }, swarm(group), h("div", { class: "narrow" }, rows(group, summary))));
}

const only = (app) => app.query.get("artifact");

function newestByNode(group) {
  const found = new Map();
  for (const each of group.toSorted((a, b) => a.started_at.localeCompare(b.started_at))) found.set(each.node, each);
  return [...found.values()].toSorted((a, b) => a.node.localeCompare(b.node, undefined, { numeric: true }));
}

function rows(group, summary) {
  const open = group.some((each) => !ENDED.has(each.state));
  return table({
    label: "Transfers of this artifact",
    rows: group,
    key: (row) => row.transfer,
    columns: [
      { title: "Node", cell: (row) => nodeLink(row.node) },
      { title: "State", cell: (row) => chip(row.state) },
      { title: "Done", cell: (row) => [bar([[row.percent / 100, row.state === "failed" ? "bad" : row.percent >= 100 ? "ok" : ""]], `${row.percent} %`), ` ${row.percent} %`] },
      { title: open ? "Rate" : "Took", right: true, cell: (row) => (ENDED.has(row.state) ? duration(row.seconds) : rate(row.rate_bytes_per_second)) },
      { title: open ? "Left" : "Began", right: true, cell: (row) => (ENDED.has(row.state) ? when(row.started_at) : row.eta_seconds === null ? "?" : coarse(row.eta_seconds)) },
      { title: "From", right: true, cell: (row) => h("span", { title: Object.entries(row.bytes_by_source).sort((a, b) => b[1] - a[1]).map(([node, count]) => `${bytes(count)} from ${node}`).join("\n") || undefined }, `${Object.keys(row.bytes_by_source).length || "—"}`) },
      { title: "Fed", right: true, cell: (row) => bytes(row.bytes_uploaded) },
      { title: "Why", wide: true, cell: (row) => summary?.slow?.[row.node] ?? row.slow ?? row.reason ?? row.transport },
    ],
  });
}

// -- the picture

/** Nodes on a circle; a curve from each source to whom it fed, as wide as what it gave. */
function swarm(group) {
  const names = new Set(group.map((each) => each.node));
  for (const each of group) for (const source of Object.keys(each.bytes_by_source)) names.add(source);
  const places = layout([...names].toSorted((a, b) => a.localeCompare(b, undefined, { numeric: true })));
  const edges = group.flatMap((each) => Object.entries(each.bytes_by_source).map(([source, count]) => ({ source, to: each, count })))
    .filter((edge) => places.has(edge.source) && edge.count > 0 && edge.source !== edge.to.node).toSorted((a, b) => b.count - a.count).slice(0, EDGES);
  const most = Math.max(1, ...edges.map((edge) => edge.count));
  const byNode = new Map(group.map((each) => [each.node, each]));
  const told = edges.slice(0, 6).map((edge) => `${edge.source} gave ${edge.to.node} ${bytes(edge.count)}`).join("; ");
  const { side: size, radius } = places;
  return h("svg", { class: "swarm", viewBox: places.size > 2 ? `0 0 ${size} ${size * 0.81}` : `0 ${size * 0.29} ${size} ${size * 0.22}`, role: "img", "aria-label": `Who feeds whom: ${told || "nobody yet"}` },
    edges.toReversed().map((edge) => h("path", { class: `edge ${ENDED.has(edge.to.state) ? "past" : ""}`, d: curve(places.get(edge.source), places.get(edge.to.node), size, radius), "stroke-width": (0.8 + 4 * (edge.count / most)).toFixed(1) }, h("title", {}, `${bytes(edge.count)} from ${edge.source} to ${edge.to.node}`))),
    edges.length <= ARROWS ? edges.map((edge) => h("path", { class: `arrow ${ENDED.has(edge.to.state) ? "past" : ""}`, d: arrow(places.get(edge.source), places.get(edge.to.node), size, radius, 3 + 4 * (edge.count / most)) })) : null,
    [...places.entries()].map(([name, at]) => node(name, at, byNode.get(name), radius)));
}

function layout(names) {
  const size = 520;
  const radius = names.length > 24 ? 9 : names.length > 12 ? 13 : 19;
  const places = new Map();
  names.forEach((name, number) => {
    const angle = (number / names.length) * 2 * Math.PI - (names.length > 2 ? Math.PI / 2 : Math.PI);
    places.set(name, [size / 2 + Math.cos(angle) * (size / 2 - 60), size * 0.39 + Math.sin(angle) * (size * 0.39 - 42)]);
  });
  return Object.assign(places, { radius, side: size });
}

/** Through what a curve bends: toward the middle, and to its own side, so that both directions are seen. */
function bend([x0, y0], [x1, y1], size) {
  const pull = 0.35;
  const [cx, cy] = [size / 2, size * 0.39];
  return [(x0 + x1) / 2 + (cx - (x0 + x1) / 2) * pull + (y1 - y0) * 0.08, (y0 + y1) / 2 + (cy - (y0 + y1) / 2) * pull - (x1 - x0) * 0.08];
}

/** A head where a curve arrives. */
function arrow(from, to, size, radius, wide) {
  const middle = bend(from, to, size);
  const [x, y] = toward(to, middle, radius + 2).map(Number);
  const angle = Math.atan2(middle[1] - y, middle[0] - x);
  const corner = (turn) => `${(x + Math.cos(angle + turn) * wide * 1.8).toFixed(1)} ${(y + Math.sin(angle + turn) * wide * 1.8).toFixed(1)}`;
  return `M${x} ${y}L${corner(0.45)}L${corner(-0.45)}z`;
}

function curve([x0, y0], [x1, y1], size, radius) {
  const [mx, my] = bend([x0, y0], [x1, y1], size);
  const [sx, sy] = toward([x0, y0], [mx, my], radius);
  const [ex, ey] = toward([x1, y1], [mx, my], radius);
  return `M${sx} ${sy}Q${mx.toFixed(1)} ${my.toFixed(1)} ${ex} ${ey}`;
}

function toward([x, y], [tx, ty], by) {
  const far = Math.hypot(tx - x, ty - y) || 1;
  return [(x + ((tx - x) / far) * by).toFixed(1), (y + ((ty - y) / far) * by).toFixed(1)];
}

function node(name, [x, y], transfer, radius) {
  const done = transfer ? transfer.percent / 100 : 1;
  const around = 2 * Math.PI * radius;
  const kind = !transfer || transfer.state === "installed" ? "ok" : transfer.state === "failed" ? "bad" : "";
  const word = !transfer ? "has it" : ENDED.has(transfer.state) ? transfer.state : `${transfer.percent} %, ${rate(transfer.rate_bytes_per_second)}`;
  return h("g", { key: name }, h("title", {}, `${name}: ${word}`),
    h("circle", { class: "track", cx: x, cy: y, r: radius }),
    h("circle", { class: `done ${kind}`, cx: x, cy: y, r: radius, "stroke-dasharray": `${(around * done).toFixed(1)} ${around.toFixed(1)}`, transform: `rotate(-90 ${x} ${y})` }),
    radius > 15 ? h("text", { x, y: y + 4 }, kind === "ok" ? "✓" : `${transfer.percent}`) : null,
    h("text", { x, y: y + radius + 14 }, name),
    transfer && !ENDED.has(transfer.state) && radius > 12 ? h("text", { class: "small", x, y: y + radius + 26 }, rate(transfer.rate_bytes_per_second)) : null);
}
