// One training run: its curves, its checkpoints, what went wrong, and what came of it.

import { api } from "../parts/api.js";
import { button, cancel } from "../parts/actions.js";
import { lines } from "../parts/charts.js";
import { h } from "../parts/dom.js";
import { bytes, clock, duration, number } from "../parts/format.js";
import { chip, cli, empty, facts, modelLink, nodeLink, section, table, when } from "../parts/shared.js";
import { laneLink } from "./training.js";

const CHARTS = 8;

export function view(app, id) {
  const touches = (event) => event.data?.run_id === id || event.key === id;
  return {
    title: id,
    sources: { run: { path: api(["runs", id], { epochs: 500 }), on: touches, every: 10 } },
    draw: ({ run }) => draw(app, id, run),
  };
}

function draw(app, id, run) {
  const epochs = run.epochs ?? [];
  const names = [...new Set(epochs.flatMap((each) => Object.keys(each.metrics ?? {})))].slice(0, CHARTS);
  const under = !run.finished_at;
  const marks = [
    ...(run.faults ?? []).map((each) => ({ x: Date.parse(each.at), name: `fault: ${each.kind ?? each.class ?? ""} ${each.reason ?? each.message ?? ""}`, kind: "bad" })),
    ...(run.fallbacks ?? []).map((each) => ({ x: Date.parse(each.at), name: `goes on on ${each.device ?? each.to ?? "another device"}`, kind: "" })),
    ...moves(epochs),
  ];
  const curve = (name) => lines({ title: name, show: number, low: null, log: isWide(epochs.map((each) => each.metrics?.[name])), marks, series: byClaim(epochs, (each) => each.metrics?.[name]) });
  return [
    h("section", { class: "part", key: "top" },
      h("div", { class: "title" }, h("h1", {}, id), chip(run.state), run.degraded ? chip("degraded", "warn") : null, h("span", { class: "spring" }), under ? button(app, cancel(id)) : null),
      run.reason ? h("p", {}, run.reason) : null,
      facts([
        ["Lane", run.lane ? laneLink(run.lane) : null], ["Model", run.model ? modelLink(run.model) : null], ["Node", run.node ? nodeLink(run.node) : null], ["Device", run.device],
        ["Began", when(run.started_at)], ["Took", duration(((run.finished_at ? Date.parse(run.finished_at) : Date.now()) - Date.parse(run.started_at)) / 1000)],
        ["Epoch", run.epoch], ["Step", run.latest?.step], ["Attempts", run.claim], ["Commit", run.git_commit?.slice(0, 12)],
        ["Checkpoint", run.checkpoint ? `step ${run.checkpoint.step}, ${bytes(run.checkpoint.size)}` : null],
        ["Became", (run.versions ?? []).length ? run.versions.map((each) => [modelLink(each.model, each.version), " ", chip(each.stage), " "]) : null],
      ])),
    h("section", { class: "part", key: "curves" }, h("h2", {}, "Curves"),
      names.length ? h("div", { class: "grid2 charts" }, names.map(curve), lines({ title: "Seconds per step", show: duration, marks, series: byClaim(epochs, (each) => each.step_seconds) })) : empty("It has logged no epoch yet.")),
    run.best && Object.keys(run.best).length ? section("Metrics", table({
      label: "Metrics",
      rows: Object.entries(run.best),
      key: ([name]) => name,
      columns: [{ title: "Metric", cell: ([name]) => name }, ...["last", "lowest", "highest"].map((each) => ({ title: each, right: true, cell: ([, said]) => number(said[each]) }))],
    })) : null,
    section("Faults", (run.faults ?? []).length || (run.fallbacks ?? []).length ? h("ol", { class: "timeline" }, [...(run.faults ?? []).map((each) => [each, "bad"]), ...(run.fallbacks ?? []).map((each) => [each, "warn"])].toSorted(([a], [b]) => a.at.localeCompare(b.at)).map(([each, kind], at) => h("li", { key: at, class: kind },
      h("p", {}, h("b", {}, each.kind ?? each.class ?? each.fault ?? "fell back"), " ", h("time", { datetime: each.at }, clock(each.at)), each.node ? h("span", { class: "note" }, `on ${each.node}`) : null), h("p", {}, each.reason ?? each.message ?? "")))) : empty("None.")),
    section("Checkpoints", (run.checkpoints ?? []).length ? table({
      label: "Checkpoints",
      rows: run.checkpoints.toReversed().slice(0, 50),
      key: (row) => `${row.step}/${row.at}`,
      columns: [
        { title: "Step", cell: (row) => row.step },
        { title: "Epoch", right: true, cell: (row) => row.epoch ?? "—" },
        { title: "Saved", cell: (row) => when(row.at) },
        { title: "Size", right: true, cell: (row) => bytes(row.size) },
        { title: "Took", right: true, cell: (row) => duration(row.save_seconds) },
        { title: "Node", cell: (row) => row.node },
        { title: "Metrics", wide: true, cell: (row) => Object.entries(row.metrics ?? {}).map(([name, value]) => `${name} ${number(value)}`).join(", ") },
      ],
    }) : empty("None yet."), cli(`fleetcast runs show ${id}`)),
    section("Configuration", h("details", {}, h("summary", {}, "what it was started with"), h("pre", {}, JSON.stringify({ config: run.config, data: run.data, host: run.host }, null, 1)))),
  ];
}

/** Whether values span so much that only a logarithm shows all of it. */
function isWide(values) {
  const known = values.filter((value) => Number.isFinite(value));
  return known.length > 2 && Math.min(...known) > 0 && Math.max(...known) / Math.min(...known) > 30;
}

/** One series per attempt: where a run went on elsewhere, its curve does too. */
function byClaim(epochs, value) {
  const attempts = [...new Set(epochs.map((each) => each.claim))];
  return attempts.map((claim, colour) => ({ name: attempts.length > 1 ? `attempt ${claim}` : "", colour, points: epochs.filter((each) => each.claim === claim).map((each) => [Date.parse(each.at), value(each)]) }));
}

function moves(epochs) {
  const found = [];
  epochs.forEach((each, number) => {
    if (number && epochs[number - 1].claim !== each.claim) found.push({ x: Date.parse(each.at), name: `goes on on ${each.node}`, kind: "ok" });
  });
  return found;
}
