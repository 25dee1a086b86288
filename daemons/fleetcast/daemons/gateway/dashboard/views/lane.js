// One lane: how full its bucket is, which nodes may take its run, what ran before.

import { api } from "../parts/api.js";
import { button, lane as order } from "../parts/actions.js";
import { h } from "../parts/dom.js";
import { number, plural, share } from "../parts/format.js";
import { bar, chip, cli, empty, facts, nodeLink, runLink, section, table, when } from "../parts/shared.js";

export function view(app, lane) {
  const touches = (event) => event.data?.lane === lane || event.key === lane;
  return {
    title: lane,
    sources: {
      found: { path: api(["lanes", lane]), on: touches, every: 10 },
      runs: { path: api(["runs"], { lane, limit: 30 }), on: touches, every: 15, optional: true },
    },
    draw: ({ found, runs }) => draw(app, lane, found, runs),
  };
}

function draw(app, lane, found, runs) {
  const paused = found.state?.paused;
  return [
    h("section", { class: "part", key: "top" },
      h("div", { class: "title" }, h("h1", {}, lane), chip(paused ? "paused" : found.standing, paused ? "warn" : undefined), found.due ? chip("due", "info") : null, h("span", { class: "spring" }),
        button(app, order("trigger", lane)), paused ? button(app, order("resume", lane)) : button(app, order("pause", lane))),
      h("p", {}, bar([[found.needed ? found.tokens / found.needed : 0, found.tokens >= found.needed ? "ok" : ""]], "bucket"), ` ${number(Math.round(found.tokens))} of ${plural(found.needed, "new sample")}; the newest data set has ${number(found.samples)}, it needs ${number(found.required)}`),
      found.reasons.length ? h("ul", { class: "sentences" }, found.reasons.map((each) => h("li", {}, each))) : null,
      facts([["Model", found.definition.model], ["Class", found.definition.work_class], ["Due", found.due_at ? when(found.due_at) : null], ["Run", found.run ? [runLink(found.run.run), " ", chip(found.run.phase, "info")] : "none"], ["Data set", found.state?.dataset ?? found.state?.version], ["File", found.file], ["Digest", found.digest]]),
      found.copies ? h("p", { class: "refused" }, `Not the same on all trainers: ${Object.entries(found.copies.digests).map(([digest, nodes]) => `${digest.slice(0, 8)} on ${nodes.join(", ")}`).join("; ")}`) : null),
    section("Who may take its run", found.nodes.length ? table({
      label: "Nodes",
      rows: found.nodes.toSorted((a, b) => b.eligible - a.eligible || b.score - a.score),
      key: (row) => row.node,
      columns: [
        { title: "Node", cell: (row) => nodeLink(row.node) },
        { title: "May", cell: (row) => chip(row.eligible ? "yes" : "no", row.eligible ? "ok" : "idle") },
        { title: "Suits", right: true, cell: (row) => (row.eligible ? share(row.score, 0) : "—") },
        { title: "Why not", wide: true, cell: (row) => row.reason },
      ],
    }) : empty("No trainer answers.")),
    section("Runs", runs?.runs.length ? table({
      label: "Runs",
      rows: runs.runs,
      key: (row) => row.run_id,
      href: (row) => `/training/runs/${encodeURIComponent(row.run_id)}`,
      columns: [
        { title: "Run", cell: (row) => runLink(row.run_id) },
        { title: "State", cell: (row) => chip(row.state) },
        { title: "Node", cell: (row) => row.node ?? "—" },
        { title: "Epoch", right: true, cell: (row) => row.epoch ?? "—" },
        { title: "Began", cell: (row) => when(row.started_at) },
      ],
    }) : empty("It has run nothing yet.")),
    section("Definition", h("details", {}, h("summary", {}, "as it is in force"), h("pre", {}, JSON.stringify(found.definition, null, 1))), cli(`fleetcast why ${lane}`)),
  ];
}
