// The event log as it happens: one stream per tab, which comes back by itself and goes on where it was. `fetch` and not
// EventSource, because that cannot send a token.

import { headers } from "./api.js";

const FIRST_WAIT = 300;
const LONGEST_WAIT = 5000;
/** The gateway says something every 15 s; silence for longer means that nobody is there any more. */
const SILENT = 40000;
const KEPT = 600;
const PAGE = 400;

export const states = { CONNECTING: "connecting", LIVE: "live", AWAY: "away", REFUSED: "refused", ASLEEP: "asleep" };

/** The tab's stream. `onevent(event)`, `onchange()`, `onstate()` are told. */
export class Live {
  constructor() {
    this.state = states.CONNECTING;
    this.since = Date.now();
    this.reason = "";
    this.seen = null;
    this.events = [];
    this.kept = KEPT;
    this.listeners = new Set();
    this.heard = 0;
    this._stop = null;
    this._wake = null;
  }

  /** Begin, and go on until the tab is closed. */
  async run() {
    document.addEventListener("visibilitychange", () => this._visible());
    addEventListener("online", () => this.again());
    let wait = FIRST_WAIT;
    for (;;) {
      if (document.hidden) {
        this._set(states.ASLEEP, "");
        await this._pause(3600000);
        continue;
      }
      const was = this.heard;
      const why = await this._once();
      if (this.heard > was) wait = FIRST_WAIT;
      if (why !== null) this._set(why.refused ? states.REFUSED : states.AWAY, why.reason);
      await this._pause(wait * (0.8 + 0.4 * Math.random()));
      wait = Math.min(LONGEST_WAIT, wait * 1.7);
    }
  }

  /** Connect anew, now: another token, or somebody does not want to wait. */
  again() {
    this._stop?.abort();
    this._wake?.();
  }

  /** Begin with the past anew: whoever looks may see something else now. */
  forget() {
    this.seen = null;
    this.events = [];
    this.again();
  }

  /** Put the page before the oldest event that is here in front of it; false: there is none. */
  async older() {
    const first = this.events[0]?.sequence ?? 0;
    if (first <= 1) return false;
    const stop = new AbortController();
    const found = [];
    const take = ({ id, event, data }) => {
      if (event === "" && id !== null && id < first) found.push(JSON.parse(data));
      if (event === "" && id !== null && id >= first) stop.abort();
    };
    try {
      const answer = await fetch(`/api/events?last_event_id=${Math.max(0, first - PAGE - 1)}`, { headers: headers(), cache: "no-store", signal: stop.signal });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const frames = new Frames(take);
      for (let part = await reader.read(); !part.done; part = await reader.read()) frames.feed(part.value);
    } catch {
      // It is over where the events begin that are here already.
    }
    this.events.unshift(...found);
    this.kept += found.length;
    return found.length > 0;
  }

  _visible() {
    // A hidden tab holds no connection; what it missed is told when it comes back.
    this.again();
  }

  _pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this._wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async _once() {
    const stop = new AbortController();
    this._stop = stop;
    let silence = setTimeout(() => stop.abort(), SILENT);
    try {
      const more = this.seen === null ? "&tail=400" : "";
      const sent = this.seen === null ? {} : { "Last-Event-ID": String(this.seen) };
      const answer = await fetch(`/api/events?changes=true${more}`, {
        headers: headers(sent),
        cache: "no-store",
        signal: stop.signal,
      });
      if (!answer.ok) {
        const said = await answer.json().catch(() => ({}));
        return { refused: answer.status === 401 || answer.status === 403, reason: said.detail || `${answer.status}` };
      }
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const frames = new Frames((frame) => this._take(frame));
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return { reason: "the gateway ended the stream" };
        this.heard += 1;
        clearTimeout(silence);
        silence = setTimeout(() => stop.abort(), SILENT);
        frames.feed(value);
      }
    } catch {
      return document.hidden ? null : { reason: "the gateway does not answer" };
    } finally {
      clearTimeout(silence);
      stop.abort();
    }
  }

  _take({ id, event, data }) {
    if (event === "hello") {
      this._set(states.LIVE, "");
    } else if (event === "changed") {
      this._tell("change");
    } else if (event === "reset") {
      this.seen = null;
      this.events = [];
    } else if (event === "" && id !== null) {
      this.seen = id;
      let said;
      try {
        said = JSON.parse(data);
      } catch {
        said = { sequence: id, error: "the event could not be read" };
      }
      this.events.push(said);
      if (this.events.length > this.kept) this.events.splice(0, this.events.length - this.kept);
      this._tell("event", said);
    }
  }

  _set(state, reason) {
    if (state === this.state && reason === this.reason) return;
    if (state !== this.state) this.since = Date.now();
    this.state = state;
    this.reason = reason;
    this._tell("state");
  }

  _tell(what, said) {
    for (const listener of [...this.listeners]) listener(what, said);
  }
}

/** Frames of a stream of server-sent events (WHATWG HTML, section 9.2). */
export class Frames {
  constructor(take) {
    this.take = take;
    this.rest = "";
    this.begin();
  }

  begin() {
    this.id = null;
    this.event = "";
    this.data = [];
  }

  feed(text) {
    const lines = (this.rest + text).split(/\r\n|\n|\r/);
    this.rest = lines.pop();
    for (const line of lines) this.line(line);
  }

  line(line) {
    if (line === "") {
      if (this.data.length) this.take({ id: this.id, event: this.event, data: this.data.join("\n") });
      this.begin();
      return;
    }
    if (line.startsWith(":")) return;
    const at = line.indexOf(":");
    const name = at < 0 ? line : line.slice(0, at);
    const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
    if (name === "id" && /^\d+$/.test(value)) this.id = Number(value);
    else if (name === "event") this.event = value;
    else if (name === "data") this.data.push(value);
  }
}
