// All models: one row each, found as quickly as one can write.

import { api, ask } from "../parts/api.js";
import { h } from "../parts/dom.js";
import { number, plural } from "../parts/format.js";
import { chip, choose, empty, modelLink, search, section, table, when } from "../parts/shared.js";

const STAGES = ["development", "sandbox", "staging", "canary", "production", "archived", "rejected", "quarantined"];
const SORTS = [["", "by name"], ["changed", "changed last"], ["versions", "most versions"]];
const TOUCHES = /^(slot|stage|version\.reserved|rollout|model|freeze)/;

export function view(app) {
  const further = { rows: [], next: null, loading: false };
  const stage = app.query.get("stage") ?? "";
  const tag = app.query.get("tag") ?? "";
  const more = async (next) => {
    further.loading = true;
    const page = await ask(api(["models"], { stage, tag, after: next, limit: 500 }));
    further.rows.push(...page.models);
    Object.assign(further, { next: page.next, loading: false, began: true });
    app.draw();
  };
  return {
    title: "Models",
    sources: {
      models: { path: api(["models"], { stage, tag, limit: 500 }), on: (event) => TOUCHES.test(event.event ?? ""), every: 15 },
      board: { path: api(["fleet"]), changes: true, on: (event) => /^(slot|version)/.test(event.event ?? ""), every: 10, optional: true },
      stats: { path: api(["model-registry", "stats"]), every: 30, optional: true },
      health: { path: api(["model-registry", "monitor", "production"]), on: (event) => event.event === "verdict.changed", every: 20, optional: true },
    },
    draw: (data) => draw(app, data, further, more),
  };
}

function draw(app, { models, board, stats, health }, further, more) {
  const all = [...models.models, ...further.rows];
  const words = (app.query.get("text") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const placed = new Map((board?.models ?? []).map((each) => [each.model, each]));
  const healths = new Map((health?.models ?? []).map((each) => [each.model_id, each]));
  const text = (row) => `${row.model} ${row.production ?? ""} ${row.canary ?? ""} ${row.newest ?? ""} ${healths.get(row.model)?.health_status ?? ""}`.toLowerCase();
  const shown = sorted(all.filter((row) => words.every((word) => text(row).includes(word))), app.query.get("sort"));
  const next = further.began ? further.next : models.next;
  return h("section", { class: "part", key: "models" },
    h("h1", {}, "Models"),
    counts(stats),
    h("div", { class: "filters" }, search(app, "text", "Search  /"),
      choose(app, "stage", "with a version in", [["", "any stage"], ...STAGES.map((each) => [each, each])], { again: true }),
      choose(app, "sort", "sorted", SORTS),
      h("span", { class: "note", "aria-live": "polite" }, shown.length === all.length ? plural(all.length, "model") : `${shown.length} of ${plural(all.length, "model")}`)),
    all.length === 0 ? empty("No model yet:  fleetcast register MODEL VERSION FILE") : table({
      app,
      label: "Models",
      rows: shown,
      key: (row) => row.model,
      sig: (row) => JSON.stringify([row, placed.get(row.model)?.ready, placed.get(row.model)?.wanted, placed.get(row.model)?.complete, healths.get(row.model)?.health_status]),
      href: (row) => `/models/${encodeURIComponent(row.model)}`,
      columns: [
        { title: "Model", cell: (row) => modelLink(row.model) },
        { title: "Production", cell: (row) => version(row.production) },
        { title: "In place", right: true, cell: (row) => inPlace(placed.get(row.model)) },
        { title: "Canary", cell: (row) => (row.canary ? [h("b", {}, row.canary), row.percent ? ` at ${row.percent} %` : ""] : "—") },
        { title: "Health", cell: (row) => healthChip(row, healths.get(row.model)) },
        { title: "Previous", cell: (row) => version(row.previous) },
        { title: "Newest", cell: (row) => version(row.newest) },
        { title: "Versions", right: true, cell: (row) => number(row.versions) },
        { title: "State", cell: (row) => [rollout(row.rollout), row.freeze ? chip("frozen", "warn", { title: row.freeze.reason ?? "" }) : null] },
        { title: "Changed", cell: (row) => when(row.changed_at) },
      ],
    }),
    all.length && !shown.length ? empty("No model fits.") : null,
    next ? h("p", {}, h("button", { onclick: () => more(next), disabled: further.loading }, "More models")) : null);
}

const version = (text) => (text ? h("span", { class: "v", title: text }, text) : "—");
const QUIET = ["promoted", "withdrawn", "superseded"];
const rollout = (phase) => (phase && !QUIET.includes(phase) ? chip(phase.replaceAll("_", " "), phase.includes("halt") || phase.includes("back") ? "warn" : "info") : null);

function sorted(rows, by) {
  if (by === "changed") return rows.toSorted((a, b) => (b.changed_at ?? "").localeCompare(a.changed_at ?? ""));
  if (by === "versions") return rows.toSorted((a, b) => b.versions - a.versions);
  return rows;
}

const inPlace = (row) => (row ? h("span", { class: row.complete ? "" : "late" }, `${row.ready}/${row.wanted}`) : "—");

function healthChip(row, health) {
  if (!row.production && !row.canary) return "—";
  const word = health?.health_status ?? "unknown";
  return chip(word === "unknown" ? "no data" : word, undefined, { title: (health?.reasons ?? []).join("; ") || undefined, ...(word === "unknown" ? { class: "chip none" } : {}) });
}

function counts(stats) {
  if (!stats) return null;
  const stages = Object.entries(stats.by_stage).filter(([, count]) => count);
  return h("p", { class: "counts" }, `${plural(stats.models ?? stats.total_models, "model")}, ${plural(stats.versions ?? stats.total_versions, "version")}: `,
    stages.map(([stage, count]) => [h("a", { href: `/models?stage=${stage}` }, `${number(count)} ${stage}`), " "]));
}
