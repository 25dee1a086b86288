// Training: what starts runs and how far each lane is from one, and the runs themselves.

import { api } from "../parts/api.js";
import { h } from "../parts/dom.js";
import { duration, number, plural } from "../parts/format.js";
import { bar, chip, choose, cli, empty, modelLink, nodeLink, runLink, search, section, table, when } from "../parts/shared.js";

const STATES = ["queued", "running", "succeeded", "failed", "preempted", "cancelled"];

export function view(app) {
  const state = app.query.get("state") ?? "";
  const lane = app.query.get("lane") ?? "";
  const touches = (event) => /^(run|lane|export)\./.test(event.event ?? "");
  return {
    title: "Training",
    sources: {
      lanes: { path: api(["lanes"]), on: touches, every: 10, optional: true },
      runs: { path: api(["runs"], { state, lane, limit: 100 }), on: touches, every: 10 },
      board: { path: api(["fleet"]), changes: true, every: 10, optional: true },
    },
    draw: ({ lanes, runs, board }) => [h("h1", { class: "unseen", key: "h1" }, "Training"), lanesPart(lanes), trainersPart(board), runsPart(app, runs)],
  };
}

export const laneLink = (lane) => h("a", { href: `/training/lanes/${encodeURIComponent(lane)}` }, lane);

function lanesPart(lanes) {
  const rows = lanes?.lanes ?? [];
  return section(`Lanes (${rows.length})`, rows.length ? table({
    label: "Lanes",
    rows,
    key: (row) => row.lane,
    href: (row) => `/training/lanes/${encodeURIComponent(row.lane)}`,
    columns: [
      { title: "Lane", cell: (row) => laneLink(row.lane) },
      { title: "State", cell: (row) => [chip(row.state?.paused ? "paused" : row.standing, row.state?.paused ? "warn" : undefined), row.due ? [" ", chip("due", "info")] : null, row.copies ? [" ", chip("differs between nodes", "bad")] : null] },
      { title: "Bucket", cell: (row) => [bar([[row.needed ? row.tokens / row.needed : 0, row.tokens >= row.needed ? "ok" : ""]], `${number(row.tokens)} of ${number(row.needed)} samples`), ` ${number(Math.round(row.tokens))} of ${number(row.needed)}`] },
      { title: "Data set", right: true, cell: (row) => plural(row.samples, "sample") },
      { title: "Run", cell: (row) => (row.run ? [runLink(row.run.run), " ", chip(row.run.phase, "info")] : "—") },
      { title: "What it waits for", wide: true, cell: (row) => (row.run ? "" : row.reasons.join("; ")) },
    ],
  }) : empty("No lane: config/lanes.toml is an example; name it in trainer.lanes."), cli("fleetcast lanes"));
}

function trainersPart(board) {
  const trainers = (board?.daemons ?? []).filter((each) => each.daemon === "trainer");
  if (!trainers.length) return null;
  return section("GPUs", table({
    label: "Trainers and GPUs",
    rows: trainers,
    key: (row) => row.node,
    columns: [
      { title: "Node", cell: (row) => nodeLink(row.node) },
      { title: "State", cell: (row) => chip(row.quarantine ? "quarantined" : row.state) },
      { title: "GPUs", cell: (row) => row.gpus.map((gpu) => [h("span", { title: gpu.fault || gpu.warning || `proven ${gpu.proven_at ?? "never"}` }, gpu.model || gpu.vendor, gpu.fault ? [" ", chip(gpu.fault, "bad")] : gpu.warning ? [" ", chip("warning", "warn")] : "", gpu.temperature ? ` ${gpu.temperature} °C` : ""), h("br")]) },
      { title: "Runs", cell: (row) => row.runs.map((run) => [runLink(run.run ?? run.run_id ?? ""), " "]) },
      { title: "What it does", wide: true, cell: (row) => row.quarantine || row.status },
    ],
  }));
}

function runsPart(app, runs) {
  const words = (app.query.get("text") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const text = (row) => `${row.run_id} ${row.lane} ${row.model} ${row.node} ${row.state} ${row.reason ?? ""}`.toLowerCase();
  const rows = runs.runs.filter((row) => words.every((word) => text(row).includes(word)));
  return section("Runs",
    h("div", { class: "filters" }, search(app, "text", "Search  /"), choose(app, "state", "state", [["", "any"], ...STATES.map((each) => [each, each])], { again: true }),
      h("span", { class: "note" }, plural(rows.length, "run"), runs.next ? ", and older ones" : "")),
    rows.length ? table({
      app,
      label: "Runs",
      rows,
      key: (row) => row.run_id,
      href: (row) => `/training/runs/${encodeURIComponent(row.run_id)}`,
      columns: [
        { title: "Run", cell: (row) => runLink(row.run_id) },
        { title: "State", cell: (row) => [chip(row.state), row.degraded ? [" ", chip("degraded", "warn", { title: String(row.degraded.reason ?? row.degraded) })] : null] },
        { title: "Model", cell: (row) => (row.model ? modelLink(row.model) : "—") },
        { title: "Node", cell: (row) => (row.node ? nodeLink(row.node) : "—") },
        { title: "Epoch", right: true, cell: (row) => row.epoch ?? "—" },
        { title: "Newest metrics", wide: true, cell: (row) => Object.entries(row.latest?.metrics ?? {}).slice(0, 3).map(([name, value]) => `${name} ${number(value)}`).join(", ") || "—" },
        { title: "Faults", right: true, cell: (row) => (row.faults ? h("span", { class: "late" }, row.faults) : "—") },
        { title: "Attempts", right: true, cell: (row) => row.claim ?? "—" },
        { title: "Began", cell: (row) => when(row.started_at) },
        { title: "Took", right: true, cell: (row) => duration(((row.finished_at ? Date.parse(row.finished_at) : Date.now()) - Date.parse(row.started_at)) / 1000) },
      ],
    }) : empty("No run."), cli("fleetcast runs"));
}
