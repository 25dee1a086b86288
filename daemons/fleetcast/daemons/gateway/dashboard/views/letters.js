// What could not be handled: why, by whom, and what is done about it.

import { api, ask } from "../parts/api.js";
import { button, letter } from "../parts/actions.js";
import { h } from "../parts/dom.js";
import { plural } from "../parts/format.js";
import { cli, empty, openDialog, search, table, when } from "../parts/shared.js";

const LIST = "/dead-letters";
const dialog = document.getElementById("dialog");

export function view(app, number) {
  dialog.addEventListener("close", leave);
  if (number) show(app, number);
  return {
    title: "Dead letters",
    sources: { found: { path: api(["dead-letters"], { limit: 500 }), on: (event) => /rejected|failed|settled/.test(event.event ?? ""), every: 10 } },
    draw: ({ found }) => draw(app, found),
    close: () => dialog.removeEventListener("close", leave),
  };
}

function draw(app, found) {
  const words = (app.query.get("text") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const rows = found.dead_letters.filter((each) => words.every((word) => `${each.subject} ${each.reason} ${each.consumer}`.toLowerCase().includes(word)));
  return h("section", { class: "part", key: "letters" },
    h("h1", {}, "Dead letters"),
    h("p", { class: "note" }, "Messages that nobody could handle. Once the cause is mended, send one again; what can never be right is dropped."),
    h("div", { class: "filters" }, search(app, "text", "Search  /"), h("span", { class: "note" }, rows.length < found.total ? `${rows.length} of ${plural(found.total, "letter")}` : plural(found.total, "letter"))),
    rows.length ? table({
      app,
      label: "Dead letters",
      rows,
      key: (row) => row.sequence,
      columns: [
        { title: "Number", cell: (row) => h("a", { href: `${LIST}/${row.sequence}`, onclick: (event) => look(event, app, row) }, row.sequence) },
        { title: "Since", cell: (row) => when(row.at) },
        { title: "Subject", cell: (row) => h("code", {}, row.subject || "no longer stored") },
        { title: "Consumer", cell: (row) => row.consumer },
        { title: "Reason", wide: true, cell: (row) => row.reason },
        { title: "", cell: (row) => buttons(app, row) },
      ],
    }) : empty(found.total ? "None fits." : "None: everything was handled."),
    cli("fleetcast dlq ls"));
}

/** What can be done about one; a message that is no longer stored can only be dropped. */
const buttons = (app, row) => h("span", { class: "row-actions" }, row.subject ? button(app, letter("retry", row)) : null, button(app, letter("drop", row)));

/** Open one over the list, which stays as it is; its address is that of the letter as long as it is open. */
function look(event, app, row) {
  if (event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", `${LIST}/${row.sequence}${location.search}`);
  show(app, row.sequence);
}

function leave() {
  if (location.pathname.startsWith(`${LIST}/`)) history.replaceState(null, "", LIST + location.search);
}

async function show(app, number) {
  const title = `Dead letter ${number}`;
  openDialog(title, [h("p", { class: "loading" }, "Loading …")], { wide: true });
  const found = await ask(api(["dead-letters", number])).catch((error) => ({ failed: error.message }));
  if (!location.pathname.startsWith(`${LIST}/`)) return;
  openDialog(title, found.failed ? [h("p", { class: "refused" }, found.failed)] : [
    h("p", { class: "refused" }, found.reason),
    found.next ? h("p", {}, found.next) : null,
    h("p", { class: "note" }, `${found.subject || "no longer stored"}, refused by ${found.consumer} after ${plural(found.attempts, "try", "tries")}, event ${found.event || "unknown"}${found.field ? `, field ${found.field}` : ""}`),
    h("pre", { class: "card-text" }, found.body),
    h("p", {}, buttons(app, found)),
    cli(`fleetcast dlq show ${number}`),
  ], { wide: true });
}
