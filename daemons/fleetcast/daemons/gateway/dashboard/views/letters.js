// What could not be handled: why, by whom, and the command that tries it again.

import { api, ask } from "../parts/api.js";
import { h } from "../parts/dom.js";
import { plural } from "../parts/format.js";
import { cli, empty, openDialog, search, table, when } from "../parts/shared.js";

export function view(app, number) {
  if (number) show(number);
  return {
    title: "Dead letters",
    sources: { found: { path: api(["dead-letters"], { limit: 500 }), on: (event) => /rejected|failed/.test(event.event ?? ""), every: 10 } },
    draw: ({ found }) => draw(app, found),
  };
}

function draw(app, found) {
  const words = (app.query.get("text") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const rows = found.dead_letters.filter((each) => words.every((word) => `${each.subject} ${each.reason} ${each.consumer}`.toLowerCase().includes(word)));
  return h("section", { class: "part", key: "letters" },
    h("h1", {}, "Dead letters"),
    h("p", { class: "note" }, "Messages that nobody could handle. Sending one again needs the right to publish whatever it is, which the gateway has not: the command line does it."),
    h("div", { class: "filters" }, search(app, "text", "Search  /"), h("span", { class: "note" }, rows.length < found.total ? `${rows.length} of ${plural(found.total, "letter")}` : plural(found.total, "letter"))),
    rows.length ? table({
      label: "Dead letters",
      rows,
      key: (row) => row.sequence,
      columns: [
        { title: "Number", cell: (row) => h("button", { class: "quiet", onclick: () => show(row.sequence) }, row.sequence) },
        { title: "Since", cell: (row) => when(row.at) },
        { title: "Subject", cell: (row) => h("code", {}, row.subject) },
        { title: "Consumer", cell: (row) => row.consumer },
        { title: "Reason", wide: true, cell: (row) => row.reason },
        { title: "", cell: (row) => h("button", { onclick: () => show(row.sequence) }, "Look") },
      ],
    }) : empty(found.total ? "None fits." : "None: everything was handled."),
    cli(rows.length ? `fleetcast dlq retry ${rows[0].sequence} --reason TEXT` : "fleetcast dlq ls"));
}

async function show(number) {
  const title = `Dead letter ${number}`;
  openDialog(title, [h("p", { class: "loading" }, "Loading …")], { wide: true });
  const letter = await ask(api(["dead-letters", number])).catch((error) => ({ failed: error.message }));
  openDialog(title, letter.failed ? [h("p", { class: "refused" }, letter.failed)] : [
    h("p", { class: "refused" }, letter.reason),
    letter.next ? h("p", {}, letter.next) : null,
    h("p", { class: "note" }, `${letter.subject}, refused by ${letter.consumer} after ${plural(letter.attempts, "try", "tries")}, event ${letter.event || "unknown"}${letter.field ? `, field ${letter.field}` : ""}`),
    h("pre", { class: "card-text" }, letter.body),
    cli(`fleetcast dlq retry ${number} --reason TEXT`),
    cli(`fleetcast dlq drop ${number} --reason TEXT --yes`),
  ], { wide: true });
}
