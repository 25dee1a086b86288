// The shell: which view a path shows, what the head says about the connection, keys, the token and the theme.

import { ask, api, hasToken, Problem, setToken } from "./parts/api.js";
import { h, patch } from "./parts/dom.js";
import { coarse } from "./parts/format.js";
import { Live, states } from "./parts/live.js";
import { Sources } from "./parts/sources.js";
import { closeDialog, growTables, openDialog, toast } from "./parts/shared.js";
import { NAVIGATION, route } from "./views.js";

const head = document.getElementById("head");
const banner = document.getElementById("banner");
const main = document.getElementById("view");
const live = new Live();
const SINCE_AWAY = 1500;

/** What every view is given. */
const app = {
  live,
  me: null,
  query: new URLSearchParams(),
  go,
  setQuery,
  draw: () => schedule(),
  refresh: () => view?.sources.refresh(),
  now: () => Date.now(),
};

let view = null;
let drawing = 0;
let theme = localStorage.getItem("fleetcast.theme") || "auto";
let jumping = 0;

// -- views

async function show() {
  const path = location.pathname;
  app.query = new URLSearchParams(location.search);
  const found = route(path);
  view?.sources.close();
  view?.close?.();
  const mine = { path, sources: new Sources(live, {}, () => {}), loading: true };
  view = mine;
  drawHead();
  if (!found) {
    patch(main, [h("section", { class: "empty" }, h("h1", {}, "Nothing here"), h("p", {}, `There is no view ${path}.`))]);
    return;
  }
  const module = await found.load();
  if (view !== mine) return;
  main.replaceChildren();
  const made = module.view(app, ...found.parts);
  document.title = `${made.title} · fleetcast`;
  Object.assign(mine, made, { loading: false });
  mine.sources = new Sources(live, made.sources ?? {}, () => schedule());
  schedule();
}

function schedule() {
  if (!drawing) drawing = requestAnimationFrame(draw);
}

function draw() {
  drawing = 0;
  if (!view || view.loading) return;
  drawHead();
  drawBanner();
  const { sources } = view;
  if (!sources.ready) {
    patch(main, [sources.error ? trouble(sources.error) : h("p", { class: "loading", key: "loading" }, "Loading …")]);
    return;
  }
  main.classList.toggle("stale", sources.stale);
  patch(main, [sources.stale ? staleness(sources) : null, view.draw(sources.data, sources)].flat());
  main.dataset.ready = view.path;
  setTimeout(growTables);
}

function trouble(error) {
  const document = error.document ?? {};
  if (error.status === 401) {
    return h("section", { class: "empty", key: "trouble" },
      h("h1", {}, "A token is needed"),
      h("p", {}, document.detail),
      h("p", {}, h("button", { class: "primary", onclick: askForToken }, "Enter a token …")),
      h("pre", { class: "cli" }, "fleetcast gateway token add NAME --role viewer --reason TEXT"));
  }
  return h("section", { class: "empty", key: "trouble" },
    h("h1", {}, error.status === 404 ? "There is no such thing" : "No data"),
    h("p", {}, document.detail ?? String(error.message)),
    document.next ? h("pre", { class: "cli" }, document.next) : null);
}

function staleness(sources) {
  return h("p", { class: "old", role: "status", key: "stale" },
    `No data for ${coarse(sources.age)}: what is below was true then.`);
}

// -- going places

function go(path, { replace = false } = {}) {
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  closeDialog();
  scrollTo(0, 0);
  return show();
}

/** Change parameters of the path without leaving the view. */
function setQuery(changes, { again = false } = {}) {
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value === null || value === undefined || value === false) app.query.delete(name);
    else app.query.set(name, String(value));
  }
  const said = app.query.toString();
  history.replaceState(null, "", location.pathname + (said ? `?${said}` : ""));
  if (again) show();
  else schedule();
}

addEventListener("popstate", () => {
  closeDialog();
  show();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const to = new URL(link.href);
  if (to.origin !== location.origin || to.pathname.startsWith("/api/") || link.target) return;
  if (to.hash && to.pathname === location.pathname) return;
  event.preventDefault();
  go(to.pathname + to.search);
});

// -- keys

document.addEventListener("keydown", (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey) return;
  const typing = event.target.closest?.("input, textarea, select");
  if (event.key === "Escape" && typing && !event.target.closest("dialog")) {
    event.target.blur();
    return;
  }
  if (typing || document.querySelector("dialog[open]")) return;
  if (jumping && Date.now() - jumping < 1500) {
    jumping = 0;
    const to = NAVIGATION.find((each) => each.jump === event.key);
    if (to) {
      event.preventDefault();
      go(to.path);
    }
    return;
  }
  if (event.key === "g") jumping = Date.now();
  else if (event.key === "/") focusSearch(event);
  else if (event.key === "?") help();
  else if (event.key === "r") app.refresh();
  else if ((event.key === "j" || event.key === "k") && moveRow(event.key === "j" ? 1 : -1)) event.preventDefault();
});

function focusSearch(event) {
  const search = main.querySelector("input[type=search]");
  if (!search) return;
  event.preventDefault();
  search.focus();
  search.select();
}

function moveRow(by) {
  const rows = [...main.querySelectorAll("[data-row]")].filter((row) => row.offsetParent !== null || row.namespaceURI.endsWith("svg"));
  if (!rows.length) return false;
  const at = rows.findIndex((row) => row === document.activeElement || row.contains(document.activeElement));
  const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))];
  (next.matches("a, button, [tabindex]") ? next : next.querySelector("a, button"))?.focus();
  return true;
}

function help() {
  const keys = [...NAVIGATION.map((each) => [`g ${each.jump}`, each.title]), ["/", "Search"], ["j k", "Next, previous row"],
    ["Enter", "Open the row"], ["r", "Ask again now"], ["Esc", "Leave a field or a dialog"], ["?", "This"]];
  openDialog("Keys", [h("dl", { class: "keys" }, keys.map(([key, what]) => [h("dt", {}, key.split(" ").map((one) => h("kbd", {}, one))), h("dd", {}, what)]))]);
}

// -- the head

const CONNECTION = {
  [states.LIVE]: ["live", "ok"],
  [states.CONNECTING]: ["connecting", "idle"],
  [states.ASLEEP]: ["asleep", "idle"],
  [states.AWAY]: ["no connection", "bad"],
  [states.REFUSED]: ["refused", "bad"],
};

function drawHead() {
  const [word, kind] = CONNECTION[live.state];
  const at = location.pathname === "/" ? "/fleet" : location.pathname;
  const current = (path) => at === path || at.startsWith(`${path}/`) || (path === "/fleet" && at.startsWith("/nodes/")) || (path === "/models" && at === "/compare");
  patch(head, [
    h("a", { class: "brand", href: "/fleet", "aria-label": "fleetcast, to the fleet" }, h("span", { class: "mark", "aria-hidden": "true" }), "fleetcast"),
    h("nav", { "aria-label": "Views" }, NAVIGATION.map((each) =>
      h("a", { href: each.path, "aria-current": current(each.path) ? "page" : undefined, title: `g ${each.jump}` }, each.title))),
    h("div", { class: "tools" },
      h("span", { class: `live ${kind}`, title: live.reason || "events as they happen" }, h("i", { "aria-hidden": "true" }), word),
      h("button", { class: "quiet", onclick: askForToken, "aria-label": `Who asks: ${who()}`, title: "token and role" }, who()),
      h("button", { class: "quiet", onclick: turnTheme, "aria-label": `Theme: ${theme}`, title: `theme: ${theme}` }, { auto: "◐", light: "☀", dark: "☾" }[theme]),
      h("button", { class: "quiet", onclick: help, "aria-label": "Keys", title: "keys: ?" }, "?")),
  ]);
}

const who = () => (app.me ? `${app.me.name} · ${app.me.role}` : hasToken() ? "unknown token" : "no token");

function drawBanner() {
  const away = (live.state === states.AWAY || live.state === states.REFUSED) && Date.now() - live.since > SINCE_AWAY;
  banner.className = away ? "shown" : "";
  patch(banner, away ? [
    h("span", {}, `${live.state === states.REFUSED ? "The gateway refuses the event stream" : "Connection lost"}: ${live.reason}. Nothing here is newer than ${coarse((Date.now() - live.since) / 1000)}; it goes on by itself.`),
    h("button", { onclick: () => live.again() }, "Try now"),
  ] : []);
}

function applyTheme() {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

function turnTheme() {
  theme = { auto: "light", light: "dark", dark: "auto" }[theme];
  localStorage.setItem("fleetcast.theme", theme);
  applyTheme();
  drawHead();
}

// -- who asks

async function learnWho() {
  try {
    app.me = await ask(api(["me"]));
  } catch (error) {
    app.me = null;
    if (!(error instanceof Problem)) throw error;
  }
  schedule();
  drawHead();
}

function askForToken() {
  const submit = async (event) => {
    event.preventDefault();
    setToken(new FormData(event.target).get("token"));
    closeDialog();
    await learnWho();
    toast(app.me ? `You are ${app.me.name}, ${app.me.role}.` : "The gateway does not know this token.");
    live.forget();
    show();
  };
  openDialog("Who asks", [
    h("p", {}, app.me?.tokens === false ? "This gateway needs no token: whoever is on its machine may do everything." : `Now: ${who()}. A viewer reads; an operator also rolls back and looks after incidents; a promoter also decides what is served.`),
    h("form", { onsubmit: submit, class: "stack" },
      h("label", {}, "Token", h("input", { name: "token", type: "password", autocomplete: "off", spellcheck: "false", placeholder: "fcg_…" })),
      h("p", { class: "note" }, "It stays in this tab until you close it. An empty one is forgotten."),
      h("pre", { class: "cli" }, "fleetcast gateway token add NAME --role operator --reason TEXT"),
      h("div", { class: "buttons" }, h("button", { type: "button", onclick: closeDialog }, "Cancel"), h("button", { class: "primary", type: "submit" }, "Use it"))),
  ]);
}

// -- start

live.listeners.add((what) => {
  if (what === "state") {
    if (live.state === states.LIVE && app.me === null) learnWho();
    drawHead();
    drawBanner();
    schedule();
  } else if (what === "event" && view?.onevent) {
    view.onevent();
  }
});
// Ages are told in words that grow old by themselves.
setInterval(() => {
  drawBanner();
  if (!document.hidden) schedule();
}, 1000);
applyTheme();
drawHead();
learnWho();
live.run();
show();
