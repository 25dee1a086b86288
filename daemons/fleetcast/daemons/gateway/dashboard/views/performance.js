// How models perform: charts with the limits that are in force, with rollbacks and incidents marked where they happened.

import { api, registry } from "../parts/api.js";
import { lines } from "../parts/charts.js";
import { h } from "../parts/dom.js";
import { milliseconds, number, share } from "../parts/format.js";
import { chip, choose, cli, empty, search, section, table, when } from "../parts/shared.js";

const MINUTE = 60000;

export function view(app, model) {
  return model ? one(app, model) : all(app);
}

// -- all models

function all(app) {
  return {
    title: "Performance",
    sources: { health: { path: registry(["monitor", "production"]), on: (event) => /^(verdict|slot)\./.test(event.event ?? ""), every: 10 } },
    draw: ({ health }) => {
      const text = (app.query.get("text") ?? "").toLowerCase();
      const wanted = app.query.get("health") ?? "";
      const rank = { critical: 0, degraded: 1, healthy: 2, unknown: 3 };
      const rows = health.models.filter((row) => row.model_id.includes(text) && (!wanted || row.health_status === wanted))
        .toSorted((a, b) => (rank[a.health_status] ?? 4) - (rank[b.health_status] ?? 4) || a.model_id.localeCompare(b.model_id));
      const count = (word, value, bad) => h("span", { class: `figure ${bad && value ? "bad" : ""}` }, h("b", {}, value), word);
      return h("section", { class: "part", key: "all" },
        h("div", { class: "title" }, h("h1", {}, "How models perform"), h("span", { class: "spring" }),
          h("div", { class: "figures" }, count("healthy", health.healthy), count("degraded", health.degraded, true), count("failing", health.failing, true), count("no data", health.unknown))),
        h("div", { class: "filters" }, search(app, "text", "Search  /"),
          choose(app, "health", "health", [["", "any"], ["critical", "critical"], ["degraded", "degraded"], ["healthy", "healthy"], ["unknown", "no data"]]),
          h("span", { class: "note" }, `over ${health.window_minutes} minutes, judged by ${health.monitors.length ? health.monitors.join(", ") : "nobody"}`)),
        health.unanswered.length ? h("p", { class: "nodata" }, `No monitor answers for ${health.unanswered.join(", ")}.`) : null,
        rows.length ? table({
          app,
          label: "Models by health",
          rows,
          key: (row) => row.model_id,
          sig: (row) => JSON.stringify(row),
          href: (row) => `/performance/${encodeURIComponent(row.model_id)}`,
          columns: [
            { title: "Model", cell: (row) => h("a", { href: `/performance/${encodeURIComponent(row.model_id)}` }, `${row.model_id}@${row.version}`) },
            { title: "Health", cell: (row) => healthChip(row.health_status) },
            { title: "Error rate", right: true, cell: (row) => share(row.metrics.avg_error_rate) },
            { title: "p95", right: true, cell: (row) => milliseconds(row.metrics.avg_latency_p95_ms) },
            { title: "Out of distribution", right: true, cell: (row) => share(row.metrics.avg_ood_rate) },
            { title: "Requests", right: true, cell: (row) => number(row.metrics.num_requests) },
            { title: "Heard", cell: (row) => (row.last_snapshot_at ? when(row.last_snapshot_at) : "never") },
            { title: "Mode", cell: (row) => row.mode },
            { title: "Why", wide: true, cell: (row) => row.reasons.join("; ") },
          ],
        }) : empty("Nothing is served, or nothing fits."),
        cli("fleetcast monitor"));
    },
  };
}

const healthChip = (word) => chip(word === "unknown" ? "no data" : word, word === "unknown" ? "none" : undefined);

// -- one model

function one(app, model) {
  const hours = Number(app.query.get("hours") ?? 6) || 6;
  const step = hours <= 6 ? 1 : hours <= 24 ? 5 : hours <= 168 ? 30 : 240;
  const since = new Date(Date.now() - hours * 3600000).toISOString();
  const about = (event) => event.data?.model === model || event.key === model;
  return {
    title: `How ${model} performs`,
    sources: {
      points: { path: registry(["models", model, "performance"], { limit: 2000, since, step_minutes: step }), every: 10, on: (event) => about(event) && event.event === "verdict.changed" },
      health: { path: registry(["models", model, "health"]), every: 10, on: about, optional: true },
      history: { path: registry(["models", model, "history"], { limit: 100 }), every: 30, on: about, optional: true },
      incidents: { path: api(["incidents"], { model, all: true, limit: 50 }), every: 30, on: (event) => event.event?.startsWith("incident."), optional: true },
    },
    draw: (data) => [
      h("section", { class: "part", key: "head" },
        h("div", { class: "title" }, h("h1", {}, h("a", { href: `/models/${encodeURIComponent(model)}` }, model)), data.health ? healthChip(data.health.health_status) : chip("no monitor answers", "none"), h("span", { class: "spring" }),
          choose(app, "hours", "last", [["1", "hour"], ["6", "6 hours"], ["24", "day"], ["168", "week"], ["720", "30 days"]], { again: true, usual: "6" })),
        data.health?.reasons?.length ? h("ul", { class: "sentences" }, data.health.reasons.map((each) => h("li", {}, each))) : null,
        data.points.points.length ? h("div", { class: "grid2 charts" }, charts(data.points.points, { history: data.history?.records, incidents: data.incidents?.incidents, health: data.health, step, since })) : h("p", { class: "nothing nodata" }, `No data: nobody reported in the last ${hours} hours.`),
        data.points.truncated ? h("p", { class: "note" }, "There are older points than these.") : null),
      data.health ? triggers(data.health) : null,
      rolledBack(data.history?.records ?? []),
      cli(`fleetcast monitor show ${model}`),
    ],
  };
}

/** Charts of the points of a model, by version. */
export function charts(points, { history = [], incidents = [], health = null, few = false, step = 1, since = null } = {}) {
  const versions = [...new Set(points.map((point) => point.version))];
  const marks = marksOf(history, incidents, since ? Date.parse(since) : Date.parse(points[0].timestamp) - MINUTE);
  const series = (field) => versions.map((version, colour) => ({
    name: version,
    colour,
    gap: Math.max(3, 3 * step) * MINUTE,
    points: points.filter((point) => point.version === version).map((point) => [Date.parse(point.timestamp), point[field]]),
  })).filter((each) => each.points.some(([, y]) => y !== null && y !== undefined));
  const chart = (title, field, show, limit) => lines({ title, series: series(field), show, marks, limit: limit ? { value: limit, name: "limit" } : null, height: few ? 150 : 190 });
  const percent = (value) => share(value, value < 0.1 ? 1 : 0);
  return [
    chart("Error rate", "error_rate", percent, limitOf(health, "error_rate")),
    chart("Latency, p95", "latency_p95_ms", (value) => `${number(Math.round(value))} ms`, limitOf(health, "latency_p95")),
    ...(few ? [] : [
      chart("Out of distribution", "ood_rate", percent, limitOf(health, "ood_rate")),
      chart("Input drift (KL)", "input_drift_score", number, limitOf(health, "input_drift")),
      chart("Requests per step", "num_requests", number, null),
    ]),
  ];
}

/** The number in `error rate <= 0.05`. */
function limitOf(health, signal) {
  const trigger = (health?.versions ?? []).flatMap((version) => version.triggers).find((each) => each.signal === signal);
  const said = /<=\s*([0-9.]+)/.exec(trigger?.required ?? "");
  return said ? Number(said[1]) : null;
}

function marksOf(history, incidents, from) {
  const decided = history.filter((record) => ["slot.rolled_back", "slot.ordered", "rollout.withdrawn"].includes(record.action)).map((record) => ({
    x: Date.parse(record.at),
    name: `${record.action === "slot.ordered" ? "serves" : "rolled back to"} ${record.version}${record.reason ? `: ${record.reason}` : ""}`,
    kind: record.action === "slot.ordered" ? "ok" : "bad",
  }));
  const opened = incidents.map((each) => ({ x: Date.parse(each.opened_at), name: `incident: ${each.title}`, kind: "" }));
  return [...decided, ...opened].filter((mark) => mark.x >= from);
}

/** What is judged, by what, and how it stands. */
export function triggers(health, { few = false } = {}) {
  const rows = health.versions.flatMap((version) => version.triggers).filter((each) => !few || each.verdict !== "insufficient");
  if (!rows.length) return few ? null : section("Triggers", empty("Nothing is judged."));
  const about = table({
    label: "Triggers",
    rows,
    key: (row) => `${row.version}/${row.slot}/${row.signal}/${row.node ?? ""}`,
    columns: [
      { title: "Version", cell: (row) => `${row.version} (${row.slot})` },
      { title: "Signal", cell: (row) => row.signal },
      { title: "Verdict", cell: (row) => chip(row.verdict, row.verdict === "stale" || row.verdict === "insufficient" ? "none" : undefined) },
      { title: "Required", wide: true, cell: (row) => row.required },
      { title: "Actual", wide: true, cell: (row) => row.actual },
      { title: "Requests", right: true, cell: (row) => number(row.samples) },
      { title: "Remedy", cell: (row) => row.remedy },
      { title: "Since", cell: (row) => when(row.since) },
    ],
  });
  const title = `Triggers, in mode ${health.mode}`;
  return few ? h("div", { class: "under" }, h("h3", {}, title), about) : section(title, about);
}

function rolledBack(records) {
  const found = records.filter((record) => ["slot.rolled_back", "rollout.withdrawn"].includes(record.action));
  if (!found.length) return null;
  return section("Taken back", h("ol", { class: "timeline" }, found.map((record) => h("li", { key: record.n, class: "bad" }, h("p", {}, h("b", {}, `to ${record.version}`), " ", when(record.at)), h("p", {}, record.reason ?? "")))));
}
