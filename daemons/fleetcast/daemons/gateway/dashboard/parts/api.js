// Requests to the gateway. The token, where there is one, stays in this tab (sessionStorage) and leaves it only in the
// header of a request to this very gateway.

const KEY = "fleetcast.token";
let token = sessionStorage.getItem(KEY) || "";

export const hasToken = () => token !== "";

export function setToken(text) {
  token = text.trim();
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
}

export function headers(more = {}) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

/** What the gateway said no to (RFC 9457), or that it did not answer (status 0). */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || `the gateway answered ${status}`);
    this.status = status;
    this.document = document;
  }
}

/** Ask; returns the document. Raises Problem. */
export async function ask(path, { method = "GET", body, signal } = {}) {
  const options = { method, signal, cache: "no-store", headers: headers() };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "the gateway does not answer", code: "away" });
  }
  let document = {};
  try {
    document = await answer.json();
  } catch {
    document = { detail: `the gateway answered ${answer.status} without a document` };
  }
  if (!answer.ok) throw new Problem(answer.status, document);
  return document;
}

/** A path with its parts and parameters encoded; parameters without a value are left out. */
export function path(parts, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "" && value !== false) query.set(name, String(value));
  }
  const said = query.toString();
  return `/${parts.map(encodeURIComponent).join("/")}${said ? `?${said}` : ""}`;
}

export const api = (parts, parameters) => path(["api", ...parts], parameters);
export const registry = (parts, parameters) => path(["api", "model-registry", ...parts], parameters);
