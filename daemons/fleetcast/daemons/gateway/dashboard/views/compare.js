// Two versions side by side: what differs first, then every number.

import { registry } from "../parts/api.js";
import { h } from "../parts/dom.js";
import { number } from "../parts/format.js";
import { cli, table, toggle } from "../parts/shared.js";

export function view(app) {
  const a = app.query.get("a") ?? "";
  const b = app.query.get("b") ?? "";
  return {
    title: `${a} and ${b}`,
    sources: { found: { path: registry(["compare"], { a, b }), every: 60 } },
    draw: ({ found }) => draw(app, found),
  };
}

function draw(app, found) {
  const everything = app.query.get("all") === "true";
  const fields = found.fields ?? [];
  const rows = fields.filter((row) => (everything || !row.same) && !(row.a === null && row.b === null));
  const link = (reference) => h("a", { href: `/models/${encodeURIComponent(reference.split("@")[0])}?version=${encodeURIComponent(reference.split("@")[1] ?? "")}` }, reference);
  return h("section", { class: "part", key: "compare" },
    h("div", { class: "title" }, h("h1", {}, link(found.a), " and ", link(found.b)), h("span", { class: "note" }, found.same_content ? "the same bytes" : `${fields.filter((row) => !row.same).length} fields differ`)),
    h("div", { class: "filters" }, toggle(app, "all", "also what is the same", { again: false })),
    table({
      label: "Differences",
      rows,
      key: (row) => row.field,
      kind: (row) => (row.same ? "quiet" : "differs"),
      columns: [
        { title: "Field", cell: (row) => row.field },
        { title: found.a, wide: true, cell: (row) => shown(row.a) },
        { title: found.b, wide: true, cell: (row) => shown(row.b) },
        { title: "Difference", right: true, cell: (row) => difference(row) },
      ],
    }),
    numbers(found),
    cli(`fleetcast compare ${found.a} ${found.b}`));
}

function numbers(found) {
  const rows = found.metrics ?? found.numbers ?? [];
  if (!Array.isArray(rows) || !rows.length) return null;
  return table({
    label: "Numbers",
    rows,
    key: (row) => row.metric ?? row.name ?? row.field,
    columns: [
      { title: "Number", cell: (row) => row.metric ?? row.name ?? row.field },
      { title: found.a, right: true, cell: (row) => shown(row.a) },
      { title: found.b, right: true, cell: (row) => shown(row.b) },
      { title: "Difference", right: true, cell: (row) => difference(row) },
    ],
  });
}

const shown = (value) => (value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length) ? "—" : typeof value === "object" ? JSON.stringify(value) : number(value));

function difference(row) {
  if (typeof row.a !== "number" || typeof row.b !== "number" || row.a === row.b) return "";
  const by = row.b - row.a;
  const relative = row.a ? ` (${by > 0 ? "+" : ""}${((by / Math.abs(row.a)) * 100).toFixed(1)} %)` : "";
  return `${by > 0 ? "+" : ""}${number(by)}${relative}`;
}
