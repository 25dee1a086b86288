// What somebody must know about, what matters most first.

import { api } from "../parts/api.js";
import { button, incident } from "../parts/actions.js";
import { h } from "../parts/dom.js";
import { duration, plural } from "../parts/format.js";
import { chip, choose, cli, empty, incidentLink, modelLink, nodeLink, search, table, toggle, when } from "../parts/shared.js";

export function view(app) {
  const all = app.query.get("all") === "true";
  const severity = app.query.get("severity") ?? "";
  return {
    title: "Incidents",
    sources: { found: { path: api(["incidents"], { all, severity, limit: 500 }), on: (event) => event.event?.startsWith("incident."), every: 15 } },
    draw: ({ found }) => draw(app, found, all),
  };
}

export const about = (each) => (each.resource_type === "ml_model" ? modelLink(each.resource_id, each.version) : each.resource_type === "node" ? nodeLink(each.resource_id) : each.resource_id);

function draw(app, found, all) {
  const words = (app.query.get("text") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const text = (each) => `${each.incident} ${each.title} ${each.resource_id} ${each.trigger} ${each.phase} ${each.severity}`.toLowerCase();
  const rows = found.incidents.filter((each) => words.every((word) => text(each).includes(word)));
  return h("section", { class: "part", key: "incidents" },
    h("h1", {}, "Incidents"),
    h("div", { class: "filters" }, search(app, "text", "Search  /"),
      choose(app, "severity", "at least", [["", "any"], ["medium", "medium"], ["high", "high"], ["critical", "critical"]], { again: true }),
      toggle(app, "all", "also resolved"), h("span", { class: "note" }, plural(rows.length, "incident"), found.more ? `, ${found.more} more` : "")),
    rows.length ? table({
      app,
      label: "Incidents",
      rows,
      key: (row) => row.incident,
      href: (row) => `/incidents/${encodeURIComponent(row.incident)}`,
      columns: [
        { title: "Severity", cell: (row) => chip(row.severity) },
        { title: "What", wide: true, cell: (row) => [incidentLink(row.incident, row.title), row.flapping ? [" ", chip("comes and goes", "warn")] : null, row.silenced ? [" ", chip("silenced", "idle")] : null] },
        { title: "Phase", cell: (row) => chip(row.phase) },
        { title: "About", cell: about },
        { title: "Opened", cell: (row) => when(row.opened_at) },
        { title: "Mitigated after", right: true, cell: (row) => duration(row.time_to_mitigate_seconds) },
        { title: "Resolved after", right: true, cell: (row) => duration(row.time_to_resolve_seconds) },
        { title: "", cell: (row) => (row.phase === "open" ? button(app, incident("ack", row.incident)) : row.acknowledged_by ? h("span", { class: "note" }, row.acknowledged_by.split("/").at(-1)) : "") },
      ],
    }) : empty(all ? "There never was an incident." : "No open incident."),
    cli(`fleetcast incidents${all ? " --all" : ""}`));
}
