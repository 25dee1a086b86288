// What a view shows, kept fresh: each source is a path of the gateway, asked again when an event says that it may be
// different, when the fleet has changed, and every so often; never faster than the gateway answers.

import { ask } from "./api.js";

const GAP = 120;
const CHANGE_GAP = 200;
/** What an event tells may reach the read model a moment later: one more look, then. */
const SETTLE = 450;

/**
 * One path. `on(event)`: whether an event touches it; `changes`: it follows the fleet; `every`: seconds after which it
 * is asked again in any case, and three times which its answer counts as old.
 */
export class Source {
  constructor(name, { path, on = () => false, changes = false, every = 15, optional = false }, tell) {
    Object.assign(this, { name, path, on, changes, every, optional, tell });
    this.data = undefined;
    this.error = null;
    this.at = 0;
    this.took = 0;
    this.began = 0;
    this.timer = null;
    this.running = null;
    this.again = false;
    this.closed = false;
  }

  /** Seconds since the gateway answered last; Infinity: never. */
  get age() {
    return this.at ? (Date.now() - this.at) / 1000 : Infinity;
  }

  get stale() {
    return this.at > 0 && this.age > Math.max(10, this.every * 3);
  }

  touch(gap = GAP) {
    if (this.closed) return;
    if (this.running) {
      this.again = true;
      return;
    }
    const due = Math.max(0, this.began + Math.max(gap, 3 * this.took) - Date.now());
    if (this.timer && this.due <= Date.now() + due) return;
    clearTimeout(this.timer);
    this.due = Date.now() + due;
    this.timer = setTimeout(() => this.load(), due);
  }

  async load() {
    clearTimeout(this.timer);
    this.timer = null;
    if (document.hidden) {
      // Nobody looks: it is asked when the tab is seen again, because the stream begins anew then.
      this.timer = setTimeout(() => this.load(), this.every * 1000);
      this.due = Date.now() + this.every * 1000;
      return;
    }
    this.running = new AbortController();
    this.again = false;
    this.began = Date.now();
    try {
      const data = await ask(this.path, { signal: this.running.signal });
      if (this.closed) return;
      this.data = data;
      this.error = null;
      this.at = Date.now();
    } catch (error) {
      if (this.closed || error.name === "AbortError") return;
      this.error = error;
    } finally {
      this.running = null;
    }
    this.took = Date.now() - this.began;
    this.tell(this);
    if (this.again) this.touch();
    else this.timer = setTimeout(() => this.load(), this.every * 1000);
    this.due = Date.now() + (this.again ? GAP : this.every * 1000);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.running?.abort();
  }
}

/** The sources of one view. */
export class Sources {
  constructor(live, wanted, tell) {
    this.live = live;
    this.all = Object.entries(wanted).map(([name, options]) => new Source(name, options, tell));
    this.settle = null;
    this.listener = (what, event) => this._heard(what, event);
    live.listeners.add(this.listener);
    for (const source of this.all) source.load();
  }

  _heard(what, event) {
    if (what === "change") {
      for (const source of this.all) if (source.changes) source.touch(CHANGE_GAP);
    } else if (what === "event") {
      const touched = this.all.filter((source) => source.on(event));
      for (const source of touched) source.touch();
      if (touched.length && !this.settle) {
        this.settle = setTimeout(() => {
          this.settle = null;
          for (const source of touched) source.touch();
        }, SETTLE);
      }
    } else if (what === "state" && this.live.state === "live") {
      for (const source of this.all) source.touch();
    }
  }

  /** Ask for everything now. */
  refresh() {
    for (const source of this.all) source.touch(0);
  }

  get data() {
    return Object.fromEntries(this.all.map((source) => [source.name, source.data]));
  }

  get ready() {
    return this.all.every((source) => source.optional || source.data !== undefined);
  }

  get error() {
    return this.all.find((source) => !source.optional && source.error)?.error ?? null;
  }

  /** Seconds since the oldest of what is shown was answered. */
  get age() {
    return Math.max(0, ...this.all.filter((source) => !source.optional).map((source) => source.age));
  }

  get stale() {
    return this.all.some((source) => !source.optional && (source.stale || (source.error && source.at > 0)));
  }

  close() {
    clearTimeout(this.settle);
    this.live.listeners.delete(this.listener);
    for (const source of this.all) source.close();
  }
}
