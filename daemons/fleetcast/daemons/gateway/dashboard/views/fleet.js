// The fleet at a glance: whether all is well, who serves what, which nodes and daemons there are.

import { api } from "../parts/api.js";
import { h, lazy } from "../parts/dom.js";
import { bytes, plural } from "../parts/format.js";
import { chip, empty, incidentLink, modelLink, nodeLink, search, section, table, toggle, when } from "../parts/shared.js";

/** What each character of a row of the board means. */
export const CELLS = {
  s: ["serves production", "ok"],
  c: ["serves the canary", "warn"],
  w: ["is behind", "info"],
  f: ["is behind and needs help", "bad"],
  x: ["serves what nobody ordered", "bad"],
  d: ["is out of service", "idle"],
  "-": ["does not want it", "none"],
};
const WIDE_NODES = 12;
const STEP = 13;
const TOUCHES = /^(slot|version|node|rollout|stage|transfer|hook|incident|playbook)\./;

export function view(app) {
  return {
    title: "Fleet",
    sources: {
      board: { path: api(["fleet"]), changes: true, on: (event) => TOUCHES.test(event.event), every: 5 },
      status: { path: api(["status"]), on: (event) => /^(incident|slot|node|event)\./.test(event.event), every: 5, optional: true },
      incidents: { path: api(["incidents"]), on: (event) => event.event?.startsWith("incident."), every: 15, optional: true },
    },
    draw: ({ board, status, incidents }, sources) => [
      verdict(board, status, incidents, sources),
      matrix(app, board),
      nodes(app, board),
      daemons(board),
    ],
  };
}

function verdict(board, status, incidents, sources) {
  const nobody = sources.stale || !status;
  const away = board.nodes.filter((node) => !node.alive);
  const ok = status?.ok;
  const word = nobody ? "No data" : ok ? "All is well" : "Degraded";
  const kind = nobody ? "none" : ok ? "ok" : "bad";
  const open = incidents?.incidents ?? [];
  const count = (value, one, href, bad) => h("a", { class: `figure ${bad ? "bad" : ""}`, href }, h("b", {}, value), one);
  const complete = board.models.filter((model) => model.complete).length;
  const moving = board.nodes.reduce((sum, node) => sum + node.transfers, 0);
  return h("section", { class: `verdict ${kind}`, key: "verdict" },
    h("h1", { role: "status" }, h("span", { class: `light ${kind}`, "aria-hidden": "true" }), word),
    h("div", { class: "figures" },
      count(`${board.nodes.length - away.length}/${board.nodes.length}`, "nodes", "#nodes", away.length),
      count(`${complete}/${board.models.length}`, "models in place", "/models", complete < board.models.length),
      count(moving, moving === 1 ? "transfer" : "transfers", "/transfers"),
      count(open.length, open.length === 1 ? "open incident" : "open incidents", "/incidents", open.length),
      count(status?.dead_letters ?? "?", status?.dead_letters === 1 ? "dead letter" : "dead letters", "/dead-letters", status?.dead_letters)),
    open.length ? h("ul", { class: "sentences" }, open.slice(0, 4).map((each) => h("li", {}, chip(each.severity), " ", incidentLink(each.incident, each.title), " ", chip(each.phase), " ", when(each.opened_at)))) : null,
    status && !ok && status.degraded.length ? h("ul", { class: "sentences" }, status.degraded.slice(0, 8).map((each) => h("li", {}, each)), status.degraded.length > 8 ? h("li", {}, `and ${status.degraded.length - 8} more`) : null) : null);
}

// -- the matrix

function matrix(app, board) {
  const text = (app.query.get("text") ?? "").toLowerCase();
  const behind = app.query.get("behind") === "true";
  const shown = board.models.filter((model) => (!text || model.model.includes(text) || model.version.includes(text)) && (!behind || !model.complete));
  const late = board.models.filter((model) => !model.complete).length;
  return section("Who serves what",
    h("div", { class: "filters" }, search(app, "text", "Search models  /"),
      toggle(app, "behind", `only what is not in place (${late})`, { again: false }),
      h("span", { class: "note" }, shown.length === board.models.length ? plural(shown.length, "model") : `${shown.length} of ${plural(board.models.length, "model")}`),
      key()),
    board.models.length === 0 ? empty("Nothing is served yet:  fleetcast promote MODEL VERSION FILE") : [
      shown.length ? null : empty("No model fits."),
      board.nodes.length <= WIDE_NODES ? wide(board, shown) : dense(board, shown),
    ]);
}

const key = () => h("span", { class: "key", "aria-hidden": "true" }, ["s", "c", "w", "f", "x", "d"].map((each) => h("span", {}, h("i", { class: `cell ${each}` }), CELLS[each][0])));

const said = (row) => `${row.model}@${row.version}: ${row.ready} of ${row.wanted} nodes${row.canary ? `, canary ${row.canary.version}` : ""}${row.waiting.length ? `; behind: ${row.waiting.slice(0, 5).map((each) => `${each.node} ${each.reason}`).join("; ")}` : ""}`;

function wide(board, rows) {
  const what = (row, cell) => ({ s: row.version, c: row.canary?.version, w: "…", f: "!", x: "?", d: "–", "-": "" })[cell] ?? "";
  const why = (row, node, cell) => {
    const waiting = row.waiting.find((each) => each.node === node.node);
    return `${node.node} ${waiting ? waiting.reason : CELLS[cell]?.[0] ?? cell}`;
  };
  return h("div", { class: "scroll", key: "matrix", hidden: !rows.length }, h("table", { class: "matrix", "aria-label": "Models by nodes" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Model"), h("th", { scope: "col", class: "right" }, "In place"),
      board.nodes.map((node) => h("th", { scope: "col", class: node.alive ? "node" : "node away", title: node.status }, nodeLink(node.node))))),
    h("tbody", {}, rows.map((row) => lazy(row.model, JSON.stringify(row) + board.nodes.map((node) => node.alive).join(), () => h("tr", { "data-row": true },
      h("th", { scope: "row" }, modelLink(row.model), row.canary ? h("span", { class: "sub" }, `canary ${row.canary.version} at ${row.canary.percent} %`) : null, moving(row)),
      h("td", { class: "right count" }, progress(row)),
      board.nodes.map((node, number) => {
        const cell = row.cells[number] ?? "-";
        return h("td", { class: `cell ${cell} ${node.alive ? "" : "away"}`, title: why(row, node, cell), "aria-label": why(row, node, cell) }, what(row, cell));
      })))))));
}

const moving = (row) => Object.entries(row.moving).map(([version, count]) => h("span", { class: "sub" }, `${version} on its way to ${plural(count, "node")}`));

const progress = (row) => h("span", { class: row.complete ? "" : "late", title: said(row) }, `${row.ready}/${row.wanted}`);

/** Many nodes: a row of squares, drawn as one path for each colour. */
function dense(board, rows) {
  const width = board.nodes.length * STEP;
  const away = board.nodes.map((node, number) => (node.alive ? -1 : number)).filter((number) => number >= 0);
  const squares = (cells, wanted) => [...cells].map((cell, number) => (cell === wanted ? `M${number * STEP} 1h${STEP - 2}v${STEP - 2}h-${STEP - 2}z` : "")).join("");
  const drawn = (row) => h("svg", { class: "cells", width, height: STEP, viewBox: `0 0 ${width} ${STEP}`, role: "img", "aria-label": said(row), onpointermove: (event) => point(event, row, board.nodes) },
    h("title", {}, said(row)),
    ["-", "s", "c", "w", "f", "x", "d"].filter((cell) => row.cells.includes(cell)).map((cell) => h("path", { class: `cell ${cell}`, d: squares(row.cells, cell) })));
  const names = board.nodes.map((node) => node.node).join();
  return h("div", { class: "scroll", key: "matrix", hidden: !rows.length }, h("div", { class: "dense", role: "table", "aria-label": "Models by nodes" },
    h("svg", { class: "away", key: "away", width, height: "100%", "aria-hidden": "true" }, away.map((number) => h("rect", { x: number * STEP - 1, y: 0, width: STEP, height: "100%" }))),
    rows.map((row) => lazy(row.model, `${row.version}|${row.canary?.version}|${row.ready}|${row.wanted}|${row.cells}|${names}|${JSON.stringify(row.moving)}`, () => h("div", { class: "row", role: "row", "data-row": true },
      h("span", { role: "rowheader", class: "name" }, modelLink(row.model)),
      h("span", { role: "cell", class: "version", title: row.version }, row.version, row.canary ? h("span", { class: "sub" }, ` → ${row.canary.version}`) : null, h("span", { class: "coming" }, Object.keys(row.moving).map((each) => ` ⇣ ${each}`))),
      h("span", { role: "cell", class: "count" }, progress(row)),
      h("span", { role: "cell" }, drawn(row)))))));
}

function point(event, row, nodes) {
  const box = event.currentTarget.getBoundingClientRect();
  const number = Math.floor((event.clientX - box.left) / (box.width / nodes.length));
  const node = nodes[number];
  if (!node) return;
  const waiting = row.waiting.find((each) => each.node === node.node);
  event.currentTarget.querySelector("title").textContent = `${node.node}: ${waiting ? waiting.reason : CELLS[row.cells[number]]?.[0] ?? ""}${node.alive ? "" : " (no data)"}`;
}

// -- nodes and daemons

function nodes(app, board) {
  const stragglers = new Map();
  for (const row of board.models) for (const each of row.waiting) stragglers.set(each.node, (stragglers.get(each.node) ?? 0) + 1);
  return h("div", { id: "nodes", key: "nodes" }, section(`Nodes (${board.nodes.length})`, table({
    app,
    label: "Nodes",
    rows: board.nodes,
    key: (node) => node.node,
    href: (node) => `/nodes/${encodeURIComponent(node.node)}`,
    kind: (node) => (node.alive ? "" : "away"),
    columns: [
      { title: "Node", cell: (node) => nodeLink(node.node) },
      { title: "State", cell: (node) => chip(node.state, undefined, { title: node.drain ?? node.status }) },
      { title: "Heard", cell: (node) => (node.alive ? when(node.heard_at) : h("span", { class: "late" }, "no data since ", when(node.heard_at))) },
      { title: "Behind on", right: true, cell: (node) => (stragglers.get(node.node) ? h("span", { class: "late" }, plural(stragglers.get(node.node), "model")) : "—") },
      { title: "Models", right: true, cell: (node) => node.models },
      { title: "Transfers", right: true, cell: (node) => node.transfers || "—" },
      { title: "Disk free", right: true, cell: (node) => bytes(node.disk_free) },
      { title: "Spool", right: true, cell: (node) => (node.spool_lost ? h("span", { class: "late" }, `${node.spool_entries}, ${node.spool_lost} lost`) : node.spool_entries || "—") },
      { title: "Version", cell: (node) => version(node.version, board) },
      { title: "Notes", wide: true, cell: (node) => [node.drain, node.reclaim_deadline ? `reclaimed: gone at ${node.reclaim_deadline}` : "", node.quarantine].filter(Boolean).join("; ") || node.status },
    ],
  })));
}

function version(own, board) {
  const others = new Set([...board.nodes, ...board.daemons].map((each) => each.version));
  return others.size > 1 ? h("span", { class: "mixed", title: `in this fleet: ${[...others].join(", ")}` }, own) : own;
}

function daemons(board) {
  return section(`Daemons (${board.daemons.length})`, table({
    label: "Daemons",
    rows: board.daemons,
    key: (each) => `${each.daemon}/${each.node}`,
    columns: [
      { title: "Daemon", cell: (each) => each.daemon },
      { title: "Node", cell: (each) => nodeLink(each.node) },
      { title: "State", cell: (each) => chip(each.state) },
      { title: "Version", cell: (each) => version(each.version, board) },
      { title: "What it does", wide: true, cell: (each) => [each.quarantine, each.status].filter(Boolean).join("; ") },
    ],
  }));
}
