// Every view and its paths. The first parts of the paths are known to the gateway too (pages.py): it serves this page
// for all of them.

/** In the order of the navigation; `jump`: the letter after `g`. */
export const NAVIGATION = [
  { path: "/fleet", title: "Fleet", jump: "f" },
  { path: "/models", title: "Models", jump: "m" },
  { path: "/transfers", title: "Transfers", jump: "t" },
  { path: "/performance", title: "Performance", jump: "p" },
  { path: "/incidents", title: "Incidents", jump: "i" },
  { path: "/training", title: "Training", jump: "r" },
  { path: "/events", title: "Events", jump: "e" },
  { path: "/dead-letters", title: "Dead letters", jump: "d" },
];

const ROUTES = [
  [/^\/$/, () => import("./views/fleet.js")],
  [/^\/fleet$/, () => import("./views/fleet.js")],
  [/^\/nodes\/([^/]+)$/, () => import("./views/node.js")],
  [/^\/transfers$/, () => import("./views/transfers.js")],
  [/^\/models$/, () => import("./views/models.js")],
  [/^\/models\/([^/]+)$/, () => import("./views/model.js")],
  [/^\/compare$/, () => import("./views/compare.js")],
  [/^\/performance$/, () => import("./views/performance.js")],
  [/^\/performance\/([^/]+)$/, () => import("./views/performance.js")],
  [/^\/incidents$/, () => import("./views/incidents.js")],
  [/^\/incidents\/([^/]+)$/, () => import("./views/incident.js")],
  [/^\/training$/, () => import("./views/training.js")],
  [/^\/training\/lanes\/([^/]+)$/, () => import("./views/lane.js")],
  [/^\/training\/runs\/([^/]+)$/, () => import("./views/run.js")],
  [/^\/events$/, () => import("./views/events.js")],
  [/^\/dead-letters$/, () => import("./views/letters.js")],
  [/^\/dead-letters\/([^/]+)$/, () => import("./views/letters.js")],
];

/** The module that shows a path, and the parts of it; null: there is none. */
export function route(pathname) {
  for (const [pattern, load] of ROUTES) {
    const found = pattern.exec(pathname);
    if (!found) continue;
    try {
      return { load, parts: found.slice(1).map(decodeURIComponent) };
    } catch {
      return null;
    }
  }
  return null;
}
