// The event log as it happens, with filters; what lies further back is fetched page by page.

import { h } from "../parts/dom.js";
import { clock, plural } from "../parts/format.js";
import { choose, cli, empty, modelLink, search } from "../parts/shared.js";
import { loudness, sentence, who } from "../parts/telling.js";

const FAMILIES = [
  ["", "all"], ["model slot stage promotion rollout approval freeze evidence", "decisions"], ["transfer artifact distribution version integrity peer", "files"],
  ["incident verdict playbook trust notification", "incidents"], ["run lane export", "training"], ["node hook event letter archive backup", "nodes"],
];

const PAGE = 400;

export function view(app) {
  const held = { until: null, shown: PAGE };
  return {
    title: "Events",
    sources: {},
    onevent: () => held.until === null && app.draw(),
    draw: () => draw(app, held),
  };
}

function draw(app, held) {
  const words = (app.query.get("text") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const family = (app.query.get("family") ?? "").split(" ").filter(Boolean);
  const only = app.query.get("model") ?? "";
  const loud = app.query.get("loud") === "true";
  const all = held.until === null ? app.live.events : app.live.events.filter((event) => event.sequence <= held.until);
  const fits = (event) => (!family.length || family.includes((event.event ?? "").split(".")[0]))
    && (!only || event.key === only || event.data?.model === only || event.data?.node === only)
    && (!loud || loudness(event) === "bad")
    && words.every((word) => haystack(event).includes(word));
  const shown = all.filter(fits).reverse().slice(0, held.shown);
  const missed = app.live.events.length - all.length;
  return h("section", { class: "part", key: "events" },
    h("h1", {}, "Events"),
    h("div", { class: "filters" }, search(app, "text", "Search  /"),
      choose(app, "family", "about", FAMILIES),
      h("label", { class: "choose" }, "of", h("input", { name: "model", size: 16, value: only, placeholder: "model, lane, node", "aria-label": "Only of this model, lane or node", oninput: (event) => app.setQuery({ model: event.target.value.trim() }) })),
      h("label", { class: "toggle" }, h("input", { type: "checkbox", checked: loud, onchange: (event) => app.setQuery({ loud: event.target.checked ? "true" : "" }) }), "only trouble"),
      h("button", { "aria-pressed": String(held.until !== null), onclick: () => {
        held.until = held.until === null ? app.live.events.at(-1)?.sequence ?? 0 : null;
        app.draw();
      } }, held.until === null ? "Hold" : `Go on${missed ? ` (${missed} new)` : ""}`),
      h("span", { class: "note" }, `${plural(shown.length, "event")} of the newest ${all.length}`)),
    shown.length ? h("ol", { class: shown.every((event) => clock(event.time).length < 9) ? "feed today" : "feed", "aria-label": "Events, the newest first", "aria-live": "off" }, shown.map(line)) : empty(all.length ? "No event fits." : "No event yet."),
    (app.live.events[0]?.sequence ?? 0) > 1 ? h("p", {}, h("button", { onclick: () => older(app, held) }, "Older events")) : null,
    cli(`fleetcast events -f${only ? ` --model ${only}` : ""}`));
}

async function older(app, held) {
  await app.live.older();
  held.shown += PAGE;
  app.draw();
}

function haystack(event) {
  event.fcText ??= `${event.event} ${event.key} ${event.source} ${sentence(event)} ${event.id}`.toLowerCase();
  return event.fcText;
}

function line(event) {
  const kind = loudness(event);
  const about = event.data?.model;
  return h("li", { key: event.sequence, class: kind, "data-row": true },
    h("details", {},
      h("summary", {},
        h("time", { datetime: event.time }, clock(event.time)),
        h("span", { class: "type" }, event.event || "not readable"),
        h("span", { class: "said" }, sentence(event))),
      h("p", { class: "note" }, `by ${who(event.source)}, place ${event.sequence} in the log`, about ? [", about ", modelLink(about)] : null),
      h("pre", {}, JSON.stringify({ ...event, fcText: undefined }, null, 1)),
      cli(`fleetcast why ${event.id ?? event.sequence}`)));
}
