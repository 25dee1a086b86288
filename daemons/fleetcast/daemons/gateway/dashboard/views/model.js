// One model: what is served, what could be, how it performs, who decided what and by which numbers.

import { api, ask, registry } from "../parts/api.js";
import { button, deployment, gateTable, remedy, rollback } from "../parts/actions.js";
import { h } from "../parts/dom.js";
import { bytes, clock, milliseconds, number } from "../parts/format.js";
import { chip, cli, empty, facts, incidentLink, nodeLink, openDialog, runLink, section, table, when } from "../parts/shared.js";
import { who } from "../parts/telling.js";
import { charts, triggers } from "./performance.js";

export function view(app, id) {
  const [model] = id.split("@");
  const version = app.query.get("version") ?? id.split("@")[1];
  const about = (event) => event.key === model || event.data?.model === model || event.data?.resource_id === model;
  const chosen = new Set();
  return {
    title: model,
    sources: {
      entry: { path: registry(["models", model], { version }), on: about, every: 15 },
      versions: { path: registry(["models"], { model_id: model, limit: 200 }), on: about, every: 30 },
      history: { path: registry(["models", model, "history"], { limit: 60 }), on: about, every: 30, optional: true },
      deployment: { path: registry(["models", model, "deployment"]), changes: true, on: about, every: 5, optional: true },
      points: { path: registry(["models", model, "performance"], { limit: 600 }), every: 20, on: (event) => about(event) && event.event === "verdict.changed", optional: true },
      health: { path: registry(["models", model, "health"]), every: 15, on: (event) => about(event) && /verdict|slot/.test(event.event), optional: true },
      incidents: { path: api(["incidents"], { model, all: true, limit: 20 }), on: (event) => event.event?.startsWith("incident."), every: 30, optional: true },
    },
    draw: (data) => [
      top(app, model, data),
      h("div", { class: "aside", key: "two" }, place(data.deployment), said(data.entry)),
      performance(app, model, data),
      versions(app, model, data.versions.models, data.entry, chosen),
      incidents(data.incidents),
      history(app, model, data.history),
    ],
  };
}

function top(app, model, { entry, deployment: placed, versions: known, health }) {
  const { production, canary, previous } = entry.slots;
  const slot = (name, version, more) => h("span", {}, h("span", { class: "note" }, `${name} `), version ? [h("b", {}, version), more ? ` ${more}` : ""] : "—");
  const newest = known.models.find((each) => each.version !== production && each.version !== canary && ["development", "sandbox", "staging"].includes(each.deploy_status) && each.artifact !== "none");
  const word = health?.health_status;
  return h("section", { class: "part", key: "top" },
    h("div", { class: "title" },
      h("h1", {}, entry.name && entry.name !== model ? `${entry.name} (${model})` : model),
      word ? chip(word === "unknown" ? "no data" : word, word === "unknown" ? "none" : undefined) : null,
      h("span", { class: "spring" }),
      canary ? button(app, deployment(model, canary, "production"), `Promote ${canary}`) : newest ? button(app, deployment(model, newest.version, "production"), `Promote ${newest.version}`) : null,
      newest && !canary && production ? button(app, deployment(model, newest.version, "canary"), `Canary ${newest.version}`) : null,
      production ? button(app, rollback(model, { from: canary ?? production, former: former(known.models, previous, production) })) : null,
      production ? button(app, remedy(model), "Check triggers") : null),
    h("p", { class: "slots" }, slot("production", production), slot("canary", canary, placed?.canary ? `at ${placed.canary.percent} %` : ""), slot("previous", previous), h("span", { class: "note" }, `generation ${entry.generation}`)),
    entry.description ? h("p", {}, entry.description) : null);
}

function former(models, previous, production) {
  const good = models.filter((each) => !["quarantined", "rollback", "rejected", "development"].includes(each.deploy_status)).map((each) => each.version);
  return [...new Set([previous, ...good].filter((each) => each && each !== production))].slice(0, 30);
}

function place(placed) {
  if (!placed) return section("In place", empty("Nothing of this model was ever served."));
  const row = (title, version, ready, wanted, waiting, more) => [
    h("p", {}, h("b", {}, `${title} ${version}`), more ? ` ${more}` : "", `: ${ready.length} of ${wanted} nodes `, chip(waiting.length ? "behind" : "in place", waiting.length ? "info" : "ok")),
    h("p", { class: "note" }, ready.length ? ["served by ", ready.slice(0, 60).map((node, at) => [at ? ", " : "", nodeLink(node)]), ready.length > 60 ? ` and ${ready.length - 60} more` : ""] : "served by nobody"),
    waiting.length ? h("ul", { class: "sentences" }, waiting.map((each) => h("li", {}, nodeLink(each.node), ` ${each.reason} `, chip(each.lag, "info")))) : null,
  ];
  return section("In place",
    row("production", placed.version || "none", placed.ready, placed.wanted - (placed.canary ? placed.canary.ready.length + placed.canary.waiting.length : 0), placed.waiting),
    placed.canary ? row("canary", placed.canary.version, placed.canary.ready, placed.canary.ready.length + placed.canary.waiting.length, placed.canary.waiting, `${placed.canary.percent} % of ${placed.canary.form}`) : null,
    placed.strangers.length ? h("p", { class: "late" }, "serving what nobody ordered: ", placed.strangers.map((each) => [nodeLink(each.node), " "])) : null,
    placed.drained.length ? h("p", { class: "note" }, "out of service: ", placed.drained.join(", ")) : null);
}

function said(entry) {
  const metrics = Object.entries(entry.evaluation_metrics ?? {}).filter(([, value]) => ["number", "string", "boolean"].includes(typeof value));
  const games = Object.entries(entry.evaluations ?? {});
  const rating = entry.rating;
  return section(`${entry.model_id}@${entry.version}`,
    facts([
      ["Stage", chip(entry.deploy_status)], ["Registered", when(entry.registered_at)], ["By", entry.registered_by ? who(entry.registered_by) : null],
      ["Size", entry.bytes ? bytes(entry.bytes) : "no bytes"], ["Format", entry.format], ["From", entry.node ? nodeLink(entry.node) : null],
      ["Framework", entry.framework], ["Type", entry.model_type], ["Owner", entry.owner], ["Team", entry.team], ["License", entry.license],
      ["Run", entry.run_id ? runLink(entry.run_id) : null], ["Commit", entry.git_commit?.slice(0, 12)], ["Tags", (entry.tags ?? []).join(", ")],
      ["Compliance", flag(entry.constitutional_compliance)], ["Bias check", flag(entry.bias_check_passed)],
      ["Expected p95", entry.expected_latency_p95_ms ? milliseconds(entry.expected_latency_p95_ms) : null],
      ["Rating", rating ? `${Math.round(rating.elo)} ± ${Math.round(rating.error ?? 0)} Elo` : null],
      ...metrics.map(([name, value]) => [name, number(value)]),
      ...games.map(([against, result]) => [`vs ${against}`, `${number(result.wins)} : ${number(result.losses)}${result.draws ? `, ${result.draws} draws` : ""}`]),
      ["Artifact", entry.artifact === "none" ? null : h("code", { title: entry.artifact }, entry.artifact.slice(0, 16))],
    ]),
    h("p", {}, h("button", { onclick: () => showCard(entry) }, "Model card")));
}

const flag = (value) => (value === null || value === undefined ? null : chip(value ? "passed" : "not passed", value ? "ok" : "bad"));

async function showCard(entry) {
  const reference = `${entry.model_id}@${entry.version}`;
  openDialog(`Card of ${reference}`, [h("p", { class: "loading" }, "Loading …")], { wide: true });
  const made = await ask(registry(["models", entry.model_id, "generate-card"], { version: entry.version }), { method: "POST" }).catch((error) => ({ model_card: error.message }));
  openDialog(`Card of ${reference}`, [h("pre", { class: "card-text" }, made.model_card), cli(`fleetcast card ${reference}`)], { wide: true });
}

function performance(app, model, { points, health, history: past, incidents: open }) {
  if (!points) return section("How it performs", empty("Nobody keeps the minutes here: fleetcast run registry"));
  return h("section", { class: "part", key: "performance" },
    h("div", { class: "title" }, h("h2", {}, "How it performs"), h("a", { href: `/performance/${encodeURIComponent(model)}` }, "larger, with triggers")),
    points.points.length ? h("div", { class: "grid2 charts" }, charts(points.points, { history: past?.records, incidents: open?.incidents, health, few: true })) : h("p", { class: "nothing nodata" }, "No data: nobody reported how this model performs.  fleetcast snapshot MODEL@VERSION"),
    health ? triggers(health, { few: true }) : null);
}

function versions(app, model, known, entry, chosen) {
  const pick = (version, on) => {
    if (on) chosen.add(version);
    else chosen.delete(version);
    while (chosen.size > 2) chosen.delete(chosen.values().next().value);
    app.draw();
  };
  const [a, b] = [...chosen];
  const compare = `/compare?a=${encodeURIComponent(`${model}@${a}`)}&b=${encodeURIComponent(`${model}@${b}`)}`;
  return h("section", { class: "part", key: "versions" },
    h("div", { class: "title" }, h("h2", {}, `Versions (${known.length})`), h("span", { class: "spring" }),
      chosen.size === 2 ? h("a", { href: compare, id: "compare" }, `Compare ${a} with ${b}`) : h("span", { class: "note" }, "tick two to compare them")),
    table({
      label: "Versions",
      rows: known,
      key: (row) => row.version,
      kind: (row) => (row.version === entry.version ? "current" : ""),
      columns: [
        { title: "Version", cell: (row) => [h("input", { type: "checkbox", "aria-label": `Compare ${row.version}`, checked: chosen.has(row.version), onchange: (event) => pick(row.version, event.target.checked) }), modelLinkOf(model, row.version)] },
        { title: "Stage", cell: (row) => [chip(row.deploy_status), ...row.slots.filter((slot) => slot !== row.deploy_status).map((slot) => [" ", chip(slot, "idle")])] },
        { title: "Since", cell: (row) => when(row.since) },
        { title: "Registered", cell: (row) => when(row.registered_at) },
        { title: "Size", right: true, cell: (row) => (row.artifact === "none" ? "no bytes" : bytes(row.bytes)) },
        { title: "Metrics", wide: true, cell: (row) => Object.entries(row.evaluation_metrics).slice(0, 4).map(([name, value]) => `${name} ${number(value)}`).join(", ") || "—" },
        { title: "", cell: (row) => h("div", { class: "buttons" }, actionsOf(app, model, row, entry.slots.production)) },
      ],
    }));
}

const modelLinkOf = (model, version) => h("a", { href: `/models/${encodeURIComponent(model)}?version=${encodeURIComponent(version)}` }, version);

function actionsOf(app, model, row, production) {
  const stage = row.deploy_status;
  const to = (where, label) => button(app, deployment(model, row.version, where), label);
  if (["quarantined", "rejected", "rollback"].includes(stage)) return [to("development", "Release")];
  if (stage === "archived") return [];
  if (row.slots.includes("production")) return [to("quarantined", "Quarantine")];
  const early = ["development", "sandbox"].includes(stage) ? to("staging", "To staging") : null;
  if (row.artifact === "none") return [more(early, to("rejected", "Reject"))];
  return [row.slots.includes("canary") || !production ? null : to("canary", "Canary"), to("production", "Promote"), to("quarantined", "Quarantine"),
    row.slots.length ? null : more(early, to("rejected", "Reject"), to("archived", "Archive"))].filter(Boolean);
}

const more = (...buttons) => h("details", { class: "more" }, h("summary", {}, "more"), h("div", { class: "row-actions" }, buttons));

function incidents(found) {
  if (!found?.incidents.length) return null;
  return section("Incidents", h("ul", { class: "sentences" }, found.incidents.map((each) => h("li", { key: each.incident }, chip(each.severity), " ", chip(each.phase), " ", incidentLink(each.incident, each.title), " ", when(each.opened_at)))));
}

function history(app, model, past) {
  if (!past) return null;
  return section("Decisions", h("ol", { class: "timeline" }, past.records.map((record) => h("li", { key: record.n, class: KIND[record.action] ?? "" },
    h("p", {}, h("b", {}, record.action), record.version ? [" ", h("code", {}, record.version)] : null, ", ", when(record.at), h("span", { class: "note" }, `by ${who(record.actor)}`),
      record.has_evidence ? [" ", h("button", { class: "quiet", onclick: () => showDecision(model, record.n) }, "gates and numbers")] : null),
    record.reason ? h("p", {}, record.reason) : null))), cli(`fleetcast history ${model}`));
}

const KIND = { "slot.ordered": "ok", "slot.rolled_back": "bad", "rollout.withdrawn": "bad", "rollout.halted": "warn", "rollout.started": "info", "rollout.verified": "info", "stage.changed": "info", "promotion.refused": "bad" };

async function showDecision(model, n) {
  const title = `Decision ${n} about ${model}`;
  openDialog(title, [h("p", { class: "loading" }, "Loading …")], { wide: true });
  const record = await ask(api(["models", model, "decisions", n])).catch((error) => ({ failed: error.message }));
  if (record.failed) {
    openDialog(title, [h("p", { class: "refused" }, record.failed)], { wide: true });
    return;
  }
  const gates = record.evidence?.gates ?? [];
  openDialog(title, [
    h("p", {}, h("b", {}, record.action), ` ${record.version ?? ""} at ${clock(record.at)} by ${who(record.actor)}`),
    record.reason ? h("p", {}, record.reason) : null,
    gates.length ? gateTable(gates) : h("p", { class: "note" }, "No gate was asked: there was none for this model."),
    h("details", {}, h("summary", {}, "All evidence"), h("pre", {}, JSON.stringify(record.evidence, null, 1))),
    cli(`fleetcast explain ${model} ${n}`),
  ], { wide: true });
}

