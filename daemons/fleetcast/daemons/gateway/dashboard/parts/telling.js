// Events in words: who, what, and the number that matters. Everything that comes from an event is text.

import { bytes, duration, number, several } from "./format.js";

const at = (data) => (data.version ? `${data.model}@${data.version}` : data.model);
const because = (text) => (text ? `: ${text}` : "");
const slotSaid = (slot) => (slot ? slot.version ?? slot : "nothing");

const TELL = {
  "model.promoted": (d) => `${at(d)} is to be served, from ${d.node}${because(d.metadata?.reason)}`,
  "model.registered": (d) => `${at(d)} is registered${d.node ? `, from ${d.node}` : ""}${because(d.metadata?.reason)}`,
  "export.completed": (d) => `lane ${d.lane} has ${number(d.samples_new)} new samples`,
  "distribution.requested": (d) => `${at(d)} is to go from ${d.node} to ${several(d.to ?? [])}`,
  "distribution.ordered": (d) => `${at(d)} goes to ${several(d.to ?? [])}`,
  "artifact.available": (d) => `${at(d)} can be fetched, ${bytes(d.bytes ?? d.size)}`,
  "transfer.started": (d) => `${d.node} fetches ${at(d)} by ${d.transport}`,
  "transfer.moved": (d) => `${d.node} goes on with ${at(d)} by ${d.transport}${because(d.reason)}`,
  "transfer.verified": (d) => `${d.node} has ${at(d)}${from(d.bytes_by_source)}${d.seconds ? `, ${duration(d.seconds)}` : ""}`,
  "transfer.failed": (d) => `${d.node} did not get ${at(d)}${because(d.reason)}`,
  "version.reserved": (d) => `${at(d)} has its number`,
  "version.installed": (d) => `${d.node} proved and installed ${at(d)}, ${bytes(d.bytes)}`,
  "version.activated": (d) => `${d.node} serves ${at(d)}${d.generation ? `, generation ${d.generation}` : ""}`,
  "version.removed": (d) => `${d.node} removed ${at(d)}${because(d.reason)}`,
  "slot.ordered": (d) => `${d.model} serves ${slotSaid(d.production)}${d.canary ? `, canary ${slotSaid(d.canary)}` : ""}, generation ${d.generation}`,
  "stage.changed": (d) => `${at(d)} is ${d.stage ?? d.to}${because(d.reason)}`,
  "promotion.refused": (d) => `${at(d)} does not go to ${d.stage ?? "production"}${because(d.reason ?? d.message)}`,
  "rollout.changed": (d) => `the rollout of ${at(d)} is ${d.phase}${because(d.reason)}`,
  "verdict.changed": (d) => `${at(d)} ${d.signal ?? d.trigger ?? ""}: ${d.verdict}${d.actual ? `, ${d.actual}` : ""}`,
  "incident.opened": (d) => `${d.severity}: ${d.title}`,
  "incident.changed": (d) => `${d.incident} ${d.what}${d.detail ? `: ${d.detail}` : because(d.reason)}`,
  "incident.raised": (d) => `${d.source} noticed: ${d.title}`,
  "incident.cleared": (d) => `${d.resource_id} ${d.trigger} is over${because(d.reason)}`,
  "model.rollback.requested": (d) => `${d.requested_by} asks to take back ${at(d)}: ${several(d.reasons ?? [], 2)}`,
  "playbook.run.changed": (d) => `${d.playbook} ${d.run ?? ""} ${d.state ?? d.what ?? ""}${because(d.detail ?? d.reason)}`,
  "run.started": (d) => `${d.run_id} began on ${d.node}`,
  "run.epoch.logged": (d) => `${d.run_id} epoch ${d.epoch}: ${metrics(d.metrics)}`,
  "run.metrics.logged": (d) => `${d.run_id} step ${d.step}: ${metrics(d.metrics)}`,
  "run.checkpoint.saved": (d) => `${d.run_id} saved step ${d.step}, ${bytes(d.size)}`,
  "run.finished": (d) => `${d.run_id} ${d.outcome}${because(d.reason)}`,
  "run.fault.recorded": (d) => `${d.run_id ?? d.node} fault ${d.kind ?? d.fault ?? d.class ?? ""}${because(d.reason ?? d.message)}`,
  "run.moved": (d) => `${d.run_id} ${d.phase}${d.node ?? d.owner ? ` on ${d.node ?? d.owner}` : ""}${because(d.reason ?? d.detail)}`,
  "lane.changed": (d) => `lane ${d.lane} ${d.what ?? ""}${because(d.reason ?? d.detail)}`,
  "lane.triggered": (d) => `lane ${d.lane} is to start a run${because(d.reason)}`,
  "approval.recorded": (d) => `${d.by ?? "somebody"} agrees that ${at(d)} goes to ${d.stage ?? "production"}${because(d.reason)}`,
  "freeze.changed": (d) => `${d.model ?? "the fleet"} is ${d.frozen ? "frozen" : "free again"}${because(d.reason)}`,
  "evidence.recorded": (d) => `something is known about ${at(d)}${because(d.reason)}`,
  "trust.changed": (d) => `${d.model} is trusted ${d.score !== undefined ? number(d.score) : "otherwise"}${because(d.reason)}`,
  "node.drain.changed": (d) => `${d.node} is ${d.drained ? "out of service" : "back in service"}${because(d.reason)}`,
  "node.started": (d) => `${d.node} began${d.version ? `, fleetcast ${d.version}` : ""}`,
  "node.stopped": (d) => `${d.node} stopped${because(d.reason)}`,
  "node.reclaim.notice": (d) => `${d.node} is taken away at ${d.deadline ?? "an unknown time"}`,
  "node.quarantined": (d) => `${d.node} takes no runs${because(d.reason)}`,
  "letter.settled": (d) => `dead letter ${d.number} of ${d.consumer} was ${d.outcome === "retried" ? "sent again" : "dropped"}${because(d.reason)}`,
  "event.rejected": (d) => `an event was refused${because(d.reason)}`,
  "integrity.failed": (d) => `${d.node} found ${at(d)} damaged${because(d.reason)}`,
  "peer.banned": (d) => `${d.node} talks no more to ${d.peer}${because(d.reason)}`,
};

function from(sources) {
  const names = Object.entries(sources ?? {}).sort((a, b) => b[1] - a[1]);
  return names.length ? `, ${names.slice(0, 2).map(([node, count]) => `${bytes(count)} from ${node}`).join(", ")}${names.length > 2 ? " …" : ""}` : "";
}

const metrics = (said) => Object.entries(said ?? {}).slice(0, 4).map(([name, value]) => `${name} ${number(value)}`).join(", ");

/** One line about an event. */
export function sentence(event) {
  const data = event.data ?? {};
  if (event.error) return `not readable: ${event.error}`;
  try {
    const told = TELL[event.event]?.(data);
    if (told) return told;
  } catch {
    // A payload that is not what it should be is shown as what it is.
  }
  return Object.entries(data).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value)).slice(0, 6)
    .map(([name, value]) => `${name} ${String(value).slice(0, 80)}`).join(", ");
}

const LOUD = [/^incident\.(opened|raised)/, /failed/, /refused/, /rejected/, /fault/, /rollback/, /banned/, /quarantined/];
const GOOD = [/^slot\.ordered/, /^version\.activated/, /verified$/, /^model\.promoted/, /^incident\.cleared/];

/** How loud an event is: "bad", "ok", or "". */
export function loudness(event) {
  if (event.error || LOUD.some((each) => each.test(event.event))) return "bad";
  return GOOD.some((each) => each.test(event.event)) ? "ok" : "";
}

/** Who did it: `/fleet/node-1/cli/root` as `root on node-1`. */
export function who(source) {
  const [, , node, daemon, ...rest] = String(source ?? "").split("/");
  if (!daemon) return String(source ?? "");
  return rest.length ? `${rest.join("/")} (${daemon}) on ${node}` : `${daemon} on ${node}`;
}

