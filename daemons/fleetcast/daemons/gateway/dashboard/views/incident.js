// One incident: what, since when, by which numbers, what was done already, and what helps now.

import { api, ask, registry } from "../parts/api.js";
import { button, incident, rollback } from "../parts/actions.js";
import { lines } from "../parts/charts.js";
import { h } from "../parts/dom.js";
import { clock, duration, milliseconds, number, share } from "../parts/format.js";
import { chip, cli, facts, section, when } from "../parts/shared.js";
import { who } from "../parts/telling.js";
import { about } from "./incidents.js";

const HOUR = 3600000;
const LONG = 30;

export function view(app, id) {
  return {
    title: id,
    sources: {
      found: { path: api(["incidents", id]), on: (event) => event.event?.startsWith("incident.") || event.event?.startsWith("playbook"), every: 15 },
    },
    draw: ({ found }) => draw(app, found),
  };
}

const points = new Map();

async function charted(app, found) {
  const key = found.incident;
  if (points.has(key)) return;
  points.set(key, null);
  const from = new Date(Date.parse(found.began_at ?? found.opened_at) - HOUR).toISOString();
  const until = new Date(Date.parse(found.opened_at) + 2 * HOUR).toISOString();
  const made = await ask(registry(["models", found.resource_id, "performance"], { since: from, until, limit: 600 })).catch(() => null);
  points.set(key, made?.points ?? []);
  app.draw();
}

function draw(app, found) {
  const isModel = found.resource_type === "ml_model";
  if (isModel) charted(app, found);
  const known = points.get(found.incident) ?? [];
  return [
    h("section", { class: "part", key: "top" },
      h("div", { class: "title" }, h("h1", {}, found.title), chip(found.severity), chip(found.phase), found.silenced ? chip("silenced", "idle") : null, h("span", { class: "spring" }),
        found.phase === "open" ? button(app, incident("ack", found.incident)) : null,
        button(app, incident("note", found.incident)),
        found.phase !== "resolved" ? button(app, incident("resolve", found.incident)) : null,
        isModel && found.phase !== "resolved" && found.phase !== "mitigated" ? button(app, rollback(found.resource_id, { from: found.version ?? "" })) : null),
      found.description ? h("p", { class: "text" }, found.description) : null,
      facts([
        ["About", about(found)], ["Trigger", found.trigger], ["Noticed by", found.source], ["Since", clock(found.began_at)], ["Opened", when(found.opened_at)],
        ["Detected after", duration(found.time_to_detect_seconds)], ["Mitigated after", duration(found.time_to_mitigate_seconds)], ["Resolved after", duration(found.time_to_resolve_seconds)],
        ["Looked after by", found.acknowledged_by ? who(found.acknowledged_by) : null], ["Noticed", `${number(found.occurrences)}×`], ["Came back", found.reopened ? `${found.reopened}×` : null],
        ["Runbook", found.runbook ? found.runbook.split("/").map((part, at) => [at ? ["/", h("wbr")] : "", part]) : null], ["Id", h("code", {}, found.incident)],
      ])),
    h("div", { class: "grid2", key: "two" }, timeline(found), evidence(found, known)),
    h("section", { class: "part", key: "next" }, h("h2", {}, "What helps now"), cli(found.next)),
  ];
}

const KINDS = { opened: "bad", severity: "bad", reopened: "bad", acknowledged: "warn", mitigating: "warn", mitigated: "info", resolved: "ok", playbook: "info" };

function timeline(found) {
  return section("What happened", h("ol", { class: "timeline" }, found.timeline.map((each, number) => h("li", { key: number, class: KINDS[each.what] ?? "" },
    h("p", {}, h("b", {}, each.what), " ", h("time", { datetime: each.at, title: each.at }, clock(each.at)), h("span", { class: "note" }, `by ${who(each.by)}`)),
    each.detail ? h("p", {}, each.detail) : null))));
}

function evidence(found, known) {
  const context = found.context ?? {};
  const given = Object.entries(context).filter(([name, value]) => name !== "reasons" && ["number", "string", "boolean"].includes(typeof value));
  const said = given.filter(([, value]) => typeof value === "string" && value.length > LONG);
  const shown = given.filter((each) => !said.includes(each));
  const field = { error_rate: "error_rate", latency_p95: "latency_p95_ms", ood_rate: "ood_rate", input_drift: "input_drift_score" }[found.trigger] ?? "error_rate";
  const versions = [...new Set(known.map((point) => point.version))];
  const show = field === "latency_p95_ms" ? milliseconds : field === "input_drift_score" ? number : share;
  const limit = Number(context.limit);
  return section("Evidence",
    (context.reasons ?? []).length ? h("ul", { class: "sentences" }, context.reasons.map((each) => h("li", {}, each))) : null,
    known.length ? lines({
      title: found.trigger,
      show,
      series: versions.map((version) => ({ name: version, gap: 3 * 60000, points: known.filter((point) => point.version === version).map((point) => [Date.parse(point.timestamp), point[field]]) })),
      limit: limit ? { value: limit, name: "limit" } : null,
      marks: [{ x: Date.parse(found.opened_at), name: "opened", kind: "bad" }, ...(found.mitigated_at ? [{ x: Date.parse(found.mitigated_at), name: "mitigated", kind: "ok" }] : [])],
    }) : null,
    said.length ? h("ul", { class: "sentences" }, said.map(([name, value]) => h("li", {}, h("span", { class: "note" }, `${name.replaceAll("_", " ")} `), value))) : null,
    h("details", {}, h("summary", {}, "All numbers"), facts(shown.map(([name, value]) => [name.replaceAll("_", " "), typeof value === "number" ? number(value) : String(value)]))));
}
