// What several views are made of: chips, tables, times, dialogs, the command line beside things.

import { h, lazy, patch } from "./dom.js";
import { ago, clock, number } from "./format.js";

const dialog = document.getElementById("dialog");
const toasts = document.getElementById("toast");
let hiding = null;

// -- dialogs

/** Show a dialog; Esc and a click beside it close it. */
export function openDialog(title, nodes, { wide = false } = {}) {
  dialog.className = wide ? "wide" : "";
  redrawDialog(title, nodes);
  if (!dialog.open) dialog.showModal();
  (dialog.querySelector("[autofocus], input, textarea, select") ?? dialog.querySelector("button"))?.focus();
}

export function redrawDialog(title, nodes) {
  patch(dialog, [
    h("header", {}, h("h2", { id: "dialog-title" }, title), h("button", { class: "quiet", onclick: closeDialog, "aria-label": "Close" }, "✕")),
    h("div", { class: "body" }, nodes),
  ]);
}

export function closeDialog() {
  if (dialog.open) dialog.close();
}

dialog.addEventListener("click", (event) => {
  if (event.target === dialog) closeDialog();
});
// A dialog that was opened again before this is told keeps what it shows.
dialog.addEventListener("close", () => dialog.open || dialog.replaceChildren());

/** A word about what was done, for some seconds. */
export function toast(text, kind = "") {
  toasts.className = `shown ${kind}`;
  toasts.textContent = text;
  clearTimeout(hiding);
  hiding = setTimeout(() => {
    toasts.className = "";
    toasts.textContent = "";
  }, 6000);
}

// -- small things

const KINDS = {
  production: "ok", canary: "warn", staging: "info", sandbox: "info", development: "idle", archived: "idle",
  rejected: "bad", quarantined: "bad", rollback: "bad", ready: "ok", degraded: "warn", lost: "bad", drained: "idle",
  stopped: "idle", starting: "info", draining: "warn", healthy: "ok", critical: "bad", unknown: "none",
  insufficient: "none", stale: "none", ok: "ok", breach: "bad", pass: "ok", fail: "bad", low: "idle", medium: "warn",
  high: "bad", open: "bad", acknowledged: "warn", mitigating: "warn", mitigated: "info", resolved: "ok",
  installed: "ok", fetching: "info", verifying: "info", failed: "bad", superseded: "idle", running: "info",
  queued: "idle", succeeded: "ok", preempted: "warn", cancelled: "idle", scaling: "idle", undefined: "none",
};

export const kindOf = (word) => KINDS[word] ?? "idle";

/** A word with the colour of what it means, and the word itself for those who see none. */
export const chip = (word, kind = kindOf(word), more = {}) => h("span", { class: `chip ${kind}`, ...more }, word);

/** A time, as how long ago it was; its tooltip says when. */
export const when = (moment) => (moment ? h("time", { datetime: moment, title: clock(moment) }, ago(moment)) : "—");

export const modelLink = (model, version) =>
  h("a", { href: `/models/${encodeURIComponent(model)}${version ? `?version=${encodeURIComponent(version)}` : ""}` }, version ? `${model}@${version}` : model);
export const nodeLink = (node) => h("a", { href: `/nodes/${encodeURIComponent(node)}` }, node);
export const runLink = (run) => h("a", { href: `/training/runs/${encodeURIComponent(run)}` }, run);
export const incidentLink = (incident, text = incident) => h("a", { href: `/incidents/${encodeURIComponent(incident)}` }, text);

/** A command that does or shows the same, to be copied. */
export function cli(command) {
  return h("div", { class: "cli" }, h("code", {}, command),
    h("button", { type: "button", class: "quiet", "aria-label": "Copy the command", title: "copy", onclick: () => copy(command) }, "copy"));
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("copied");
  } catch {
    toast("copying is not allowed here: select the text", "bad");
  }
}

export const section = (title, ...children) =>
  h("section", { class: "part", key: `part:${typeof title === "string" ? title : ""}` }, title ? h("h2", {}, title) : null, children);

export const empty = (text) => h("p", { class: "nothing" }, text);

/** Names and values beside each other; empty ones are left out. */
export function facts(pairs) {
  const said = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== "—");
  return h("dl", { class: "facts" }, said.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** A bar; `parts`: [share, kind] from 0 to 1. */
export function bar(parts, label) {
  return h("span", { class: "bar", role: "img", "aria-label": label },
    parts.map(([share, kind]) => h("i", { class: kind, style: { width: `${Math.max(0, Math.min(1, share)) * 100}%` } })));
}

// -- tables

/** How long ages in rows that are not drawn anew may stand, in milliseconds. */
const AGES = 30000;

/** How many rows a long table begins with, and by how many it grows where one comes near its end. */
const ROWS = 60;
/** Of which address, filters included, tables have grown, and how far. */
const grown = { address: "", most: new Map() };

function mostOf(label) {
  const address = location.pathname + location.search;
  if (grown.address !== address) {
    grown.address = address;
    grown.most.clear();
  }
  return grown.most.get(label) ?? ROWS;
}

/** Near its end a table grows: what nobody sees costs nothing, however much there is. */
export function growTables() {
  for (const button of document.querySelectorAll("[data-further]")) {
    if (button.getBoundingClientRect().top < 2 * innerHeight) button.click();
  }
}

addEventListener("scroll", growTables, { passive: true });
addEventListener("resize", growTables, { passive: true });

/**
 * Rows with their columns. On a phone each row is a card, and its cells say what they are.
 * `columns`: {title, cell(row), right, wide}; `key(row)`; `sig(row)`: what a row shows, where it is dear to build;
 * `app`: where there may be hundreds of rows: they are drawn as one comes to them.
 */
export function table({ app, columns, rows, key, sig, label, href, kind }) {
  const most = app ? mostOf(label) : Infinity;
  const further = rows.length - most;
  const more = () => {
    grown.most.set(label, most + ROWS);
    app.draw();
  };
  return h("div", { class: "scroll" }, h("table", { "aria-label": label, "aria-rowcount": further > 0 ? rows.length + 1 : undefined },
    h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.right ? "right" : undefined, "aria-sort": column.sort }, column.head ?? column.title)))),
    h("tbody", {}, rows.slice(0, most).map((row) => {
      const build = () => line(columns, row, { href, kind });
      return sig ? lazy(key(row), `${sig(row)}|${Math.floor(Date.now() / AGES)}`, build) : { ...build(), key: key(row) };
    }))),
  further > 0 ? h("button", { class: "quiet", "data-further": true, onclick: more }, `${number(further)} more`) : null);
}

function line(columns, row, { href, kind }) {
  const to = href?.(row);
  return h("tr", { "data-row": true, class: kind?.(row), "data-href": to, onclick: to ? (event) => follow(event, to) : undefined },
    columns.map((column) => h("td", { class: [column.right ? "right" : "", column.wide ? "wide" : ""].join(" ").trim() || undefined, "data-label": column.title }, column.cell(row))));
}

function follow(event, to) {
  if (event.target.closest("a, button, input, label, summary") || String(getSelection()).length) return;
  event.currentTarget.querySelector(`a[href]`)?.click() ?? location.assign(to);
}

// -- fields of filters

export const search = (app, name, label) =>
  h("input", { type: "search", name, value: app.query.get(name) ?? "", placeholder: label, "aria-label": label, oninput: (event) => app.setQuery({ [name]: event.target.value }), autocomplete: "off", spellcheck: "false" });

export function choose(app, name, label, options, { again = false, usual = "" } = {}) {
  const now = app.query.get(name) ?? usual;
  return h("label", { class: "choose" }, label, h("select", { name, onchange: (event) => app.setQuery({ [name]: event.target.value }, { again }) },
    options.map(([value, text]) => h("option", { value, selected: value === now }, text))));
}

export const toggle = (app, name, label, { again = true } = {}) =>
  h("label", { class: "toggle" }, h("input", { type: "checkbox", checked: app.query.get(name) === "true", onchange: (event) => app.setQuery({ [name]: event.target.checked ? "true" : "" }, { again }) }), label);
