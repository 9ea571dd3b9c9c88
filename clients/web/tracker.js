/**
 * Impression and click tracker for the pages of a shop, as an ES module without dependencies.
 *
 *     import { Tracker } from "./tracker.js";
 *     const tracker = new Tracker({ url: "https://recommender.shop.example" });
 *     tracker.setConsent(true);                       // what the user chose in the shop's dialogue
 *     tracker.watch(list, slate, { query: "jeans" }); // children of `list` carry data-item-id
 *
 * Without consent nothing is stored in the browser and nothing is sent. An impression counts once half of a product has
 * been visible for a second. Events go in batches; those that wait when the page is left go as a beacon. Nobody sees
 * the answer to a beacon, so its events are kept in localStorage, and sent once more by the next page or when the user
 * comes back to this one. Every event has an id, so that one that is sent twice counts once. One that the server would
 * refuse is left out with a warning, so that the others of its batch arrive.
 */

const CONSENT = "txrec-consent";
const USER = "txrec-user";
const OUTBOX = "txrec-outbox";
const MAX_WAITING = 500;
/** Age at which an event that has not arrived is given up, milliseconds. */
const MAX_AGE_MS = 86_400_000;
/** Longest wait between two attempts while the server is out of reach, milliseconds. */
const MAX_RETRY_MS = 60_000;
/** Bodies up to this size outlive their page (`keepalive`); browsers refuse larger ones, bytes. */
const MAX_KEEPALIVE_BYTES = 60_000;
/** Characters of an id that the API takes. */
const MAX_ID_CHARS = 256;

/**
 * @typedef {object} Options
 * @property {string} [url] address of the API, or of the shop's own path that passes events on; default: same origin
 * @property {string} [userId] of a user who is logged in; default: a random id, kept in localStorage after consent
 * @property {number} [batchSize] events that are sent together at most
 * @property {number} [flushMs] longest wait of an event, milliseconds
 * @property {number} [visibleMs] time that a product must be visible for an impression, milliseconds
 */

/** @typedef {{event_id: string, ts?: number}} WaitingEvent an event with its other fields, as the API takes it */

export class Tracker {
  /** @param {Options} [options] */
  constructor({ url = "", userId = "", batchSize = 20, flushMs = 2_000, visibleMs = 1_000 } = {}) {
    this.endpoint = `${url}/v1/events`;
    this.batchSize = batchSize;
    this.flushMs = flushMs;
    this.visibleMs = visibleMs;
    this.loggedIn = userId;
    /** @type {WaitingEvent[]} */
    this.waiting = [];
    /** @type {WaitingEvent[]} */
    this.underway = [];
    this.timer = 0;
    /** @type {AbortController | null} */
    this.sending = null;
    this.numFailures = 0;
    this.clockIsWrong = false;
    this.numDropped = 0;
    this.consent = kept(CONSENT) === "yes";
    addEventListener("online", () => void this.retry());
    addEventListener("storage", ({ key }) => { // the choice in another tab
      if (key === CONSENT || key === null) this.setConsent(kept(CONSENT) === "yes");
    });
    addEventListener("pagehide", () => this.beacon());
    addEventListener("pageshow", () => this.resume());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden") this.beacon();
      else this.resume();
    });
    this.resume();
  }

  /**
   * Records the user's choice, for all tabs. Withdrawing it drops what waits or is being sent, and removes the random id.
   * @param {boolean} consent
   */
  setConsent(consent) {
    this.consent = consent;
    if (consent) {
      keep(CONSENT, "yes");
      return;
    }
    this.waiting = [];
    this.underway = [];
    this.sending?.abort();
    this.sending = null;
    clearTimeout(this.timer);
    this.timer = 0;
    keep(OUTBOX, null);
    keep(USER, null);
    keep(CONSENT, null);
  }

  /** The user's id; null without consent. */
  get userId() {
    if (!this.consent) return null;
    if (this.loggedIn) return this.loggedIn;
    let random = kept(USER);
    if (random === null) {
      random = `web-${randomId()}`;
      keep(USER, random);
    }
    return random;
  }

  /**
   * Takes an event; it is sent with the next batch. Ignored without consent.
   * @param {{event: string, item_id?: string | number, query?: string, value?: number, request_id?: string}} event
   */
  track(event) {
    if (!this.consent) return;
    const item = event.item_id === undefined ? {} : { item_id: String(event.item_id) };
    if (item.item_id !== undefined && !isId(item.item_id)) {
      console.warn(`txrec: ${event.event} of a product without a usable id is left out: ${JSON.stringify(item.item_id)}`);
      return;
    }
    const ts = this.clockIsWrong ? {} : { ts: Date.now() * 1_000 };
    this.waiting.push({ ...event, ...item, user_id: this.userId, event_id: randomId(), ...ts });
    this.bound();
    if (this.waiting.length >= this.batchSize && this.numFailures === 0) void this.flush();
    else this.schedule();
  }

  /**
   * Reports impressions and clicks of the products of a slate.
   * @param {Element} list its descendants with `data-item-id` are the products
   * @param {{request_id: string}} slate reply of the API
   * @param {{query?: string}} [context] the search that the slate answers
   * @returns {() => void} stops watching
   */
  watch(list, slate, { query } = {}) {
    const common = { request_id: slate.request_id, ...(query ? { query } : {}) };
    /** @type {Map<Element, number>} */
    const timers = new Map();
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        clearTimeout(timers.get(target));
        if (!isIntersecting) continue;
        timers.set(target, window.setTimeout(() => {
          observer.unobserve(target);
          this.track({ event: "impression", item_id: itemOf(target), ...common });
        }, this.visibleMs));
      }
    }, { threshold: 0.5 });
    for (const product of list.querySelectorAll("[data-item-id]")) observer.observe(product);
    const onClick = (/** @type {Event} */ event) => {
      const product = event.target instanceof Element ? event.target.closest("[data-item-id]") : null;
      if (product !== null) this.track({ event: "click", item_id: itemOf(product), ...common });
    };
    list.addEventListener("click", onClick);
    return () => {
      observer.disconnect();
      timers.forEach((timer) => clearTimeout(timer));
      list.removeEventListener("click", onClick);
    };
  }

  /** Sends what waits; events whose sending failed wait for the next attempt. */
  async flush() {
    clearTimeout(this.timer);
    this.timer = 0;
    if (this.sending !== null || this.waiting.length === 0) return;
    const sending = new AbortController();
    this.sending = sending;
    const batch = this.waiting.splice(0, this.batchSize);
    this.underway = batch;
    /** @type {WaitingEvent[]} */
    let again = [];
    let failed = false;
    try {
      const reply = await fetch(this.endpoint, { ...request(batch), signal: sending.signal });
      failed = reply.status >= 500 || reply.status === 429 || reply.status === 408;
      if (failed) again = batch;
      else if (!reply.ok) again = this.acceptable(batch, reply.status, await reply.json().catch(() => null));
    } catch {
      failed = true; // no connection: the next attempt is by the timer
      again = batch;
    }
    if (this.sending !== sending) return; // consent was withdrawn meanwhile: the batch is dropped
    this.sending = null;
    this.underway = [];
    release(batch.filter(({ event_id }) => !again.some((event) => event.event_id === event_id)));
    this.numFailures = failed ? this.numFailures + 1 : 0;
    this.waiting.unshift(...again);
    this.bound();
    if (this.waiting.length >= this.batchSize && !failed) await this.flush();
    else if (this.waiting.length > 0) this.schedule();
  }

  /** Sends what waits at once after a time without connection. */
  retry() {
    this.numFailures = 0;
    return this.flush();
  }

  /**
   * Events of a refused batch that are worth another attempt: without the one that the server named, or all of them
   * without their times where it found the visitor's clock wrong.
   * @param {WaitingEvent[]} batch
   * @param {number} status
   * @param {{error?: {field?: string, message?: string}} | null} body
   */
  acceptable(batch, status, body) {
    const field = body?.error?.field ?? "";
    const [, place, name] = /^(?:(\d+)\.)?(.*)$/.exec(field) ?? [];
    if (status === 422 && name === "ts" && !this.clockIsWrong) {
      this.clockIsWrong = true;
      return batch.map(({ ts: _, ...event }) => event);
    }
    console.warn(`txrec: HTTP ${status}, ${field}: ${body?.error?.message ?? "events are refused"}`);
    return status === 422 && place !== undefined ? batch.filter((_, index) => index !== Number(place)) : [];
  }

  /** Hands what waits over to the browser, which sends it even when the page is gone, and keeps it until it arrived. */
  beacon() {
    if (this.consent) store([...this.underway, ...this.waiting]);
    while (this.consent && this.waiting.length > 0) {
      const batch = this.waiting.slice(0, this.batchSize);
      const body = new Blob([JSON.stringify(batch)], { type: "text/plain" }); // no preflight, which may come too late
      if (!navigator.sendBeacon(this.endpoint, body)) return; // the browser's buffer is full
      this.waiting.splice(0, batch.length);
    }
  }

  /** Takes up the events of beacons whose arrival nobody saw; those that did arrive are known to the server by id. */
  resume() {
    if (!this.consent || document.visibilityState === "hidden") return;
    const known = new Set([...this.underway, ...this.waiting].map((event) => event.event_id));
    const events = stored().filter((event) => !known.has(event.event_id));
    const recent = events.filter(({ ts }) => ts === undefined || Date.now() - ts / 1_000 < MAX_AGE_MS);
    if (recent.length < events.length) warnDropped(events.length - recent.length, "did not arrive for a day");
    release(events);
    this.waiting.unshift(...recent);
    this.bound();
    if (this.waiting.length > 0) this.schedule();
  }

  schedule() {
    const waitMs = this.numFailures === 0 ? this.flushMs : Math.min(MAX_RETRY_MS, this.flushMs * 2 ** this.numFailures);
    if (this.timer === 0) this.timer = window.setTimeout(() => void this.flush(), waitMs);
  }

  /** Drops the oldest events where more wait than memory is meant for, and counts them. */
  bound() {
    const surplus = this.waiting.length - MAX_WAITING;
    if (surplus > 0) {
      this.waiting.splice(0, surplus);
      this.numDropped += surplus;
      warnDropped(surplus, `are more than the ${MAX_WAITING} that wait for the server`);
    }
  }
}

/** @param {Element} product */
function itemOf(product) {
  return product.getAttribute("data-item-id") ?? "";
}

/** Events of beacons whose arrival nobody saw. @returns {WaitingEvent[]} */
function stored() {
  try {
    const events = JSON.parse(kept(OUTBOX) ?? "[]");
    return Array.isArray(events) ? events.filter((event) => typeof event?.event_id === "string") : [];
  } catch {
    return []; // not written by this module
  }
}

/** Keeps events beside those that are kept already. @param {WaitingEvent[]} events */
function store(events) {
  const all = new Map([...stored(), ...events].map((event) => [event.event_id, event]));
  if (all.size > 0) keep(OUTBOX, JSON.stringify([...all.values()].slice(-MAX_WAITING)));
}

/** Keeps some events no longer. @param {WaitingEvent[]} events */
function release(events) {
  const gone = new Set(events.map((event) => event.event_id));
  const before = stored();
  const left = before.filter((event) => !gone.has(event.event_id));
  if (left.length < before.length) keep(OUTBOX, left.length > 0 ? JSON.stringify(left) : null);
}

/** @param {number} count @param {string} reason */
function warnDropped(count, reason) {
  console.warn(`txrec: the oldest events (${count}) are dropped, because they ${reason}`);
}

/** @param {object[]} batch */
function request(batch) {
  const body = new Blob([JSON.stringify(batch)], { type: "application/json" });
  return { method: "POST", body, keepalive: body.size <= MAX_KEEPALIVE_BYTES };
}

/** @param {string} text */
function isId(text) {
  return text !== "" && [...text].length <= MAX_ID_CHARS && !/\p{Surrogate}/u.test(text);
}

/** Values of this page where the browser keeps none, e.g. because cookies are blocked. */
const memory = new Map();

/** @param {string} name */
function kept(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return memory.get(name) ?? null;
  }
}

/** @param {string} name @param {string | null} value null removes it */
function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    if (value === null) memory.delete(name);
    else memory.set(name, value);
  }
}

/** 128 random bits; crypto.randomUUID exists in secure contexts only. */
function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
