// What can be changed from here. Each change says what it does, asks for a reason, shows the command that does the
// same, and what the gateway made of it: done, on its way, or a no with the numbers.

import { ask, api, Problem, registry } from "./api.js";
import { h } from "./dom.js";
import { chip, cli, closeDialog, openDialog, redrawDialog, toast } from "./shared.js";

const ORDER = ["viewer", "operator", "promoter"];

/** Whether whoever asks may do what needs a role; null: nobody knows yet. */
export function may(app, role) {
  return app.me ? ORDER.indexOf(app.me.role) >= ORDER.indexOf(role) : null;
}

const quote = (text) => (/^[A-Za-z0-9@%+=:,./_-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);
const command = (words, options) =>
  ["fleetcast", ...words.filter(Boolean).map(quote), ...Object.entries(options).flatMap(([name, value]) => (value === undefined || value === "" || value === false ? [] : value === true ? [`--${name}`] : [`--${name}`, quote(String(value))]))].join(" ");

/** What a version can be brought to, and how. */
const STAGES = {
  production: { title: "Promote to production", role: "promoter", does: "Every node that wants the model fetches, proves and serves this version. Gates decide first." },
  canary: { title: "Serve as canary", role: "promoter", does: "Some of the nodes serve this version, the others what they serve now.", percent: true },
  staging: { title: "Bring to staging", role: "promoter", does: "The version moves up; nothing is served yet." },
  quarantined: { title: "Quarantine", role: "promoter", danger: true, does: "The version is barred: it is not served again unless somebody releases it." },
  rejected: { title: "Reject", role: "promoter", danger: true, does: "The version is taken out of the pipeline because it is too weak." },
  archived: { title: "Archive", role: "promoter", does: "The version goes to the archive; nodes may remove it." },
  development: { title: "Release", role: "promoter", does: "A rejected or quarantined version may be tried again, from development on." },
};
const VERBS = { archived: "archive", rejected: "reject", quarantined: "quarantine", development: "release" };

/** Bring a version to a stage. */
export function deployment(model, version, stage) {
  const { title, role, does, percent, danger } = STAGES[stage];
  const verb = VERBS[stage];
  return {
    id: `${stage}`,
    title,
    about: `${model}@${version}`,
    role,
    does,
    danger,
    fields: percent ? [{ name: "percent", label: "Percent of the nodes", type: "number", value: "10", min: 1, max: 100 }] : [],
    tries: ["production", "canary", "staging"].includes(stage) ? (said) => api(["models", model, "gates"], { version, stage, percent: said.percent }) : null,
    cli: (said) => (verb ? command([verb, `${model}@${version}`], { reason: said.reason || "TEXT" }) : command(["promote", model, version], { stage, percent: said.percent, reason: said.reason || "TEXT" })),
    path: registry(["models", model, "deployment"]),
    method: "PATCH",
    body: (said) => ({ status: stage, version, reason: said.reason, ...(percent ? { canary_percentage: Number(said.percent) } : {}) }),
  };
}

/** Serve a former version again. */
export function rollback(model, { to = "", from = "", former = [] } = {}) {
  const others = former.filter((version) => version && version !== from);
  return {
    id: "rollback",
    title: "Roll back",
    about: from ? `${model}, which serves ${from}` : model,
    role: "operator",
    danger: true,
    does: "The last good version is served again, or the one that you choose; nodes have it on disk. A canary that is under way is ended instead, and production stays.",
    fields: [{ name: "target", label: "Serve again", type: "select", value: to, options: [["", "the last good version"], ...others.map((version) => [version, version])] }],
    cli: (said) => command(["rollback", model], { to: said.target, reason: said.reason || "TEXT" }),
    path: registry(["models", model, "rollback"]),
    method: "POST",
    body: (said) => ({ reason: said.reason, ...(said.target ? { target_version: said.target } : {}) }),
  };
}

/** Ask for the rollback that the triggers call for. */
export function remedy(model) {
  return {
    id: "remedy",
    title: "Check triggers, and remedy",
    about: model,
    role: "operator",
    does: "If a trigger calls for it, the playbook model_rollback is asked for, within its breaker; else nothing happens.",
    fields: [],
    same: "On the command line: look, and where a trigger calls for it, remedy.",
    cli: (said) => [command(["monitor", "show", model], {}), command(["playbook", "run", "model_rollback", model], { reason: said.reason || "TEXT" })],
    path: registry(["models", model, "rollback-check"]),
    method: "POST",
    body: (said) => ({ auto_remediate: true, reason: said.reason }),
    told: (answer) => (answer.requested ? `asked for: ${answer.requested}` : answer.should_rollback ? "a rollback is called for" : "no trigger calls for a rollback"),
  };
}

const INCIDENT = {
  ack: ["Look after it", "Everybody sees that you do."],
  note: ["Add a note", "One line in its timeline."],
  resolve: ["Resolve", "It is over, whatever was said about it. If it is noticed again, it comes back."],
};

export function incident(verb, id) {
  const [title, does] = INCIDENT[verb];
  return {
    id: verb,
    title,
    about: id,
    role: "operator",
    does,
    fields: [],
    cli: (said) => command([verb, id], { reason: said.reason || "TEXT" }),
    path: api(["incidents", id, verb]),
    method: "POST",
    body: (said) => ({ reason: said.reason }),
  };
}

export function cancel(run) {
  return {
    id: "cancel",
    title: "End the run",
    about: run,
    role: "operator",
    danger: true,
    does: "The run ends, wherever it is; its checkpoints stay.",
    fields: [{ name: "now", label: "At once, without time to save", type: "checkbox" }],
    cli: (said) => command(["cancel", run], { now: Boolean(said.now), reason: said.reason || "TEXT" }),
    path: api(["runs", run, "cancel"]),
    method: "POST",
    body: (said) => ({ reason: said.reason, now: Boolean(said.now) }),
  };
}

const LANE = {
  trigger: ["Start a run now", "Whatever the bucket holds."],
  pause: ["Pause the lane", "It starts no run any more; what runs goes on."],
  resume: ["Resume the lane", "It starts runs again when they are due."],
};

export function lane(verb, name) {
  const [title, does] = LANE[verb];
  return {
    id: verb,
    title,
    about: name,
    role: "operator",
    does,
    fields: [],
    cli: (said) => command([verb, name], { reason: said.reason || "TEXT" }),
    path: api(["lanes", name, verb]),
    method: "POST",
    body: (said) => ({ reason: said.reason }),
  };
}

const LETTER = {
  retry: ["Send again", "The message is published again under its own id, and handled as if it had just come."],
  drop: ["Drop", "It is deleted for good. What it asked for is not done."],
};

/** Settle a dead letter; `number` of it, and the `role` that it takes to send it again. */
export function letter(verb, { sequence, subject, role }) {
  const [title, does] = LETTER[verb];
  return {
    id: verb,
    title,
    about: `dead letter ${sequence}${subject ? `, ${subject}` : ""}`,
    role: verb === "retry" ? role : "operator",
    does,
    danger: verb === "drop",
    fields: [],
    cli: (said) => command(["dlq", verb, String(sequence)], { yes: verb === "drop", reason: said.reason || "TEXT" }),
    path: api(["dead-letters", sequence, verb]),
    method: "POST",
    body: (said) => ({ reason: said.reason }),
  };
}

/** A button that opens the dialog of an action; who may not do it sees that on it. */
export function button(app, action, label = action.title) {
  const allowed = may(app, action.role) !== false;
  return h("button", {
    class: action.danger ? "danger" : undefined,
    "data-action": action.id,
    "data-locked": allowed ? undefined : "true",
    title: allowed ? action.does : `needs the role ${action.role}`,
    onclick: () => open(app, action),
  }, allowed ? label : `🔒 ${label}`);
}

/** Ask for what an action needs, and do it. */
export function open(app, action) {
  const state = { said: Object.fromEntries(action.fields.map((field) => [field.name, field.value ?? ""])), busy: false, problem: null, tried: null };
  state.said.reason = "";
  const draw = () => {
    document.getElementById("dialog").classList.toggle("wide", Boolean(state.tried?.gates.length || state.problem?.document.gates?.length));
    redrawDialog(action.title, form(app, action, state, draw));
  };
  openDialog(action.title, form(app, action, state, draw));
  document.querySelector("#dialog textarea")?.focus();
}

function form(app, action, state, draw) {
  const allowed = may(app, action.role) !== false;
  const reason = state.said.reason.trim();
  const say = (name, value) => {
    state.said[name] = value;
    state.tried = null;
    draw();
  };
  return [
    h("p", { class: "about" }, h("strong", {}, action.about), h("br"), action.does),
    allowed ? null : h("p", { class: "refused", role: "alert" }, `${app.me.name} is ${app.me.role}, and this needs ${action.role}. Enter another token, or have somebody else do it:`),
    h("form", { class: "stack", onsubmit: (event) => submit(event, app, action, state, draw) },
      action.fields.map((field) => input(field, state, say)),
      h("label", {}, "Reason", h("textarea", { name: "reason", rows: "2", maxlength: "900", required: true, placeholder: "Why; it stays in the record", value: state.said.reason, oninput: (event) => say("reason", event.target.value) })),
      h("p", { class: "note" }, action.same ?? "The same on the command line:"),
      [action.cli({ ...state.said, reason })].flat().map(cli),
      state.tried ? tried(state.tried) : null,
      state.problem ? problem(state.problem) : null,
      h("div", { class: "buttons", key: "buttons" },
        action.tries ? h("button", { type: "button", "data-action": "try", onclick: () => tryIt(action, state, draw) }, "What would the gates say?") : null,
        h("span", { class: "spring" }),
        h("button", { type: "button", onclick: closeDialog }, "Cancel"),
        h("button", { type: "submit", class: action.danger ? "danger filled" : "primary", disabled: !allowed || !reason || state.busy }, state.busy ? "…" : action.title))),
  ];
}

function input(field, state, say) {
  const value = state.said[field.name];
  if (field.type === "checkbox") {
    return h("label", { class: "toggle" }, h("input", { type: "checkbox", checked: Boolean(value), onchange: (event) => say(field.name, event.target.checked) }), field.label);
  }
  if (field.type === "select") {
    return h("label", {}, field.label, h("select", { name: field.name, onchange: (event) => say(field.name, event.target.value) },
      field.options.map(([option, text]) => h("option", { value: option, selected: option === value }, text))));
  }
  return h("label", {}, field.label, h("input", { name: field.name, type: field.type, min: field.min, max: field.max, value, required: true, oninput: (event) => say(field.name, event.target.value) }));
}

async function tryIt(action, state, draw) {
  state.problem = null;
  try {
    state.tried = await ask(action.tries(state.said));
  } catch (error) {
    state.problem = error;
  }
  draw();
}

async function submit(event, app, action, state, draw) {
  event.preventDefault();
  if (state.busy) return;
  Object.assign(state, { busy: true, problem: null });
  draw();
  try {
    const said = { ...state.said, reason: state.said.reason.trim() };
    const answer = await ask(action.path, { method: action.method, body: action.body(said) });
    closeDialog();
    toast(action.told?.(answer) ?? answer.message ?? answer.status ?? "done", "ok");
    app.refresh();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    Object.assign(state, { busy: false, problem: error });
    draw();
  }
}

function problem(error) {
  const said = error.document;
  return h("div", { class: "refused", role: "alert" },
    h("strong", {}, said.detail ?? error.message),
    said.why ? h("p", {}, said.why) : null,
    said.gates?.length ? gateTable(said.gates) : null,
    said.next ? helps(said.next) : null);
}

function tried(answer) {
  return h("div", { class: answer.accepted ? "allowed" : "refused", role: "status" },
    h("strong", {}, answer.message),
    answer.gates.length ? gateTable(answer.gates) : h("p", {}, "No gate is asked."),
    answer.next ? helps(answer.next) : null);
}

/** What helps: a command, or words. */
const helps = (text) => (text.startsWith("fleetcast ") ? cli(text) : h("p", {}, text));

/** Gates with what each required and found. */
export function gateTable(gates) {
  return h("div", { class: "scroll" }, h("table", { class: "gates", "aria-label": "Gates" },
    h("thead", {}, h("tr", {}, ["Gate", "", "Required", "Actual"].map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, gates.map((gate) => h("tr", {},
      h("td", { "data-label": "Gate" }, gate.gate ?? gate.name),
      h("td", { "data-label": "" }, chip(gate.verdict)),
      h("td", { "data-label": "Required" }, String(gate.required ?? "")),
      h("td", { "data-label": "Actual" }, String(gate.actual ?? "")))))));
}
