// One node: what it is, what it has, what it fetches.

import { api } from "../parts/api.js";
import { h } from "../parts/dom.js";
import { bytes, clock, duration, rate } from "../parts/format.js";
import { bar, chip, cli, empty, facts, modelLink, section, table, when } from "../parts/shared.js";

export function view(app, name) {
  const touches = (event) => event.key === name || event.data?.node === name;
  return {
    title: name,
    sources: {
      node: { path: api(["nodes", name]), changes: true, on: touches, every: 5 },
      board: { path: api(["fleet"]), changes: true, on: touches, every: 10, optional: true },
    },
    draw: ({ node, board }) => draw(app, name, node, board),
  };
}

function draw(app, name, node, board) {
  const behind = (board?.models ?? []).flatMap((row) => row.waiting.filter((each) => each.node === name).map((each) => ({ ...each, model: row.model })));
  const daemons = (board?.daemons ?? []).filter((each) => each.node === name);
  const models = node.models.filter((each) => each.kind === "model");
  const sets = node.models.filter((each) => each.kind !== "model");
  return [
    h("section", { class: "part", key: "top" },
      h("div", { class: "title" }, h("h1", {}, name), chip(node.state), node.alive ? null : h("span", { class: "late" }, "no data since ", when(node.at))),
      h("p", {}, node.drain ? `out of service since ${clock(node.drain.at)}, by ${node.drain.by}: ${node.drain.reason}` : node.status),
      behind.length ? h("ul", { class: "sentences" }, behind.map((each) => h("li", {}, "behind on ", modelLink(each.model), ` ${each.reason}`))) : null,
      facts([
        ["Heard", when(node.at)], ["Since", when(node.started_at)], ["fleetcast", node.version], ["Disk free", bytes(node.disk_free)],
        ["Spool", node.spool_lost ? `${node.spool_entries}, ${node.spool_lost} lost` : String(node.spool_entries)], ["Transports", node.transports.join(", ")],
        ["Labels", Object.entries(node.labels).map(([key, value]) => `${key}=${value}`).join(", ")], ["Wants", node.wants.models.join(", ")],
        ["BitTorrent", node.endpoints.bt], ["HTTP", node.endpoints.http], ["rsync", node.endpoints.rsync], ["Metrics", node.metrics], ["Data", node.data], ["Reclaimed at", node.reclaim_deadline],
      ]), cli(`fleetcast why ${name}`)),
    section(`Models (${models.length})`, models.length ? list(app, models) : empty("None.")),
    sets.length ? section(`Data sets and checkpoints (${sets.length})`, list(app, sets, "Data sets and checkpoints")) : null,
    section("Transfers", node.transfers.length ? table({
      label: "Transfers",
      rows: node.transfers.toSorted((a, b) => b.started_at.localeCompare(a.started_at)).slice(0, 60),
      key: (row) => row.transfer,
      columns: [
        { title: "What", cell: (row) => h("a", { href: `/transfers?artifact=${row.artifact.slice(0, 16)}` }, `${row.model}@${row.version}`) },
        { title: "State", cell: (row) => chip(row.state) },
        { title: "Done", cell: (row) => [bar([[row.percent / 100, row.percent >= 100 ? "ok" : ""]], `${row.percent} %`), ` ${row.percent} %`] },
        { title: "Size", right: true, cell: (row) => bytes(row.bytes_total) },
        { title: "Took", right: true, cell: (row) => duration(row.seconds) },
        { title: "Rate", right: true, cell: (row) => rate(row.rate_bytes_per_second) },
        { title: "By", cell: (row) => row.transport },
        { title: "Began", cell: (row) => when(row.started_at) },
        { title: "Why", wide: true, cell: (row) => row.slow ?? row.reason ?? row.choice },
      ],
    }) : empty("None since it began.")),
    daemons.length ? section("Daemons", table({
      label: "Daemons",
      rows: daemons,
      key: (row) => row.daemon,
      columns: [{ title: "Daemon", cell: (row) => row.daemon }, { title: "State", cell: (row) => chip(row.state) }, { title: "Version", cell: (row) => row.version }, { title: "What it does", wide: true, cell: (row) => row.status }],
    })) : null,
  ];
}

function list(app, rows, label = "Models") {
  return table({
    app,
    label,
    rows,
    key: (row) => row.model,
    columns: [
      { title: "Name", cell: (row) => (row.kind === "model" ? modelLink(row.model) : row.model) },
      { title: "Serves", cell: (row) => [row.current ?? "—", row.follows === "canary" ? [" ", chip("canary")] : null] },
      { title: "Generation", right: true, cell: (row) => row.generation },
      { title: "Previous", cell: (row) => row.previous ?? "—" },
      { title: "On disk", wide: true, cell: (row) => row.installed.map((each) => `${each.version} (${bytes(each.bytes)}, ${each.transport})`).join(", ") || "—" },
      { title: "Hook", cell: (row) => (row.hook ? chip(row.hook.state, row.hook.state === "failed" ? "bad" : "ok", { title: row.hook.detail }) : "—") },
    ],
  });
}
